"""Keys, certificates and module-like files for the tests of signatures. Made on the fly with OpenSSL."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"~Module signature appended~\n"
GOOD = ("keyUsage=critical,digitalSignature", "extendedKeyUsage=codeSigning")


@dataclass(frozen=True)
class Pair:
    """A private key and its certificate, as PEM files."""

    key: Path
    certificate: Path


def make_pair(folder: Path, name: str = "site", *, kind: str = "rsa:2048", extensions: tuple[str, ...] = GOOD) -> Pair:
    """A new key and a certificate for it."""
    made = Pair(key=folder / f"{name}.key", certificate=folder / f"{name}.pem")
    _certify(made.certificate, ["-newkey", *kind.split(" "), "-nodes", "-keyout", str(made.key)], name, extensions)
    return made


def certified_again(pair: Pair, folder: Path, extensions: tuple[str, ...]) -> Pair:
    """The same key, whose making takes long, with another certificate."""
    made = Pair(key=pair.key, certificate=folder / "again.pem")
    _certify(made.certificate, ["-key", str(pair.key)], "again", extensions)
    return made


def _certify(certificate: Path, key: list[str], name: str, extensions: tuple[str, ...]) -> None:
    argv = ["openssl", "req", "-x509", *key, "-subj", f"/CN={name}", "-days", "30", "-out", str(certificate)]
    argv += [part for extension in extensions for part in ("-addext", extension)]
    subprocess.run(argv, check=True, capture_output=True)


def signed(module: bytes, pair: Pair, *, with_certificate: bool = False) -> bytes:
    """A module with the signature that Linux's scripts/sign-file would append; it leaves the certificate out."""
    argv = ["openssl", "cms", "-sign", "-binary", "-noattr", "-nosmimecap", "-outform", "DER", "-md", "sha256"]
    argv += [] if with_certificate else ["-nocerts"]
    argv += ["-signer", str(pair.certificate), "-inkey", str(pair.key)]
    message = subprocess.run(argv, input=module, check=True, capture_output=True).stdout
    return module + message + bytes([0, 0, 2, 0, 0, 0, 0, 0]) + len(message).to_bytes(4, "big") + MAGIC


def der(certificate: Path) -> bytes:
    """A PEM certificate's DER."""
    argv = ["openssl", "x509", "-in", certificate, "-outform", "DER"]
    return subprocess.run(argv, check=True, capture_output=True).stdout
