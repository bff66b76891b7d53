"""Real OpenPGP keys, made for a test: good ones, expired ones, revoked ones.

A GnuPG home of its own, below a folder of the test's; its agent ends with `Signer.at`.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

_NUMBERS = count()


@dataclass
class Signer:
    """A GnuPG home, and a folder for what it writes."""

    home: Path
    folder: Path

    @classmethod
    @contextmanager
    def at(cls, folder: Path) -> "Iterator[Signer]":
        """A signer that writes into `folder`. The agent's socket needs a short path, so its home is elsewhere."""
        with tempfile.TemporaryDirectory(prefix="gpg-") as home:
            try:
                yield cls(Path(home), folder)
            finally:
                subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)

    def key(self, name: str, *, created: str = "20250101T000000", expires: str = "never") -> str:
        """A new signing key's fingerprint."""
        identity = f"{name} <{name}{next(_NUMBERS)}@example.org>"
        return self._made(f"--faked-system-time={created}!", "--quick-gen-key", identity, "ed25519", "sign", expires)

    def subkey(self, primary: str) -> str:
        """A new signing subkey's fingerprint."""
        return self._made("--quick-add-key", primary, "ed25519", "sign")

    def revoke(self, fingerprint: str) -> None:
        """Use the certificate that GnuPG made with the key; its colon keeps it from being used by mistake."""
        text = (self.home / f"openpgp-revocs.d/{fingerprint}.rev").read_text()
        certificate = self.folder / f"{fingerprint}.rev"
        certificate.write_text(text.replace(":-----BEGIN", "-----BEGIN"))
        self._gpg("--import", str(certificate))

    def detached(self, data: Path, *by: str, at: str = "", digest: str = "SHA512") -> Path:
        """A detached signature by one key or several."""
        time = [f"--faked-system-time={at}!"] if at else []
        return self._sign(data, "--detach-sign", *time, f"--digest-algo={digest}", by=by)

    def inline(self, data: Path, *by: str) -> Path:
        """The file with its signature around it."""
        return self._sign(data, "--clearsign", by=by)

    def keyring(self, *fingerprints: str, armour: bool = False) -> Path:
        """A file with the public keys."""
        path = self._new("keyring")
        self._gpg(*(["--armor"] if armour else []), "--output", str(path), "--export", *fingerprints)
        return path

    def _sign(self, data: Path, verb: str, *options: str, by: tuple[str, ...]) -> Path:
        path = self._new(data.name)
        users = [word for key in by for word in ("--local-user", key)]
        self._gpg(*options, *users, "--output", str(path), verb, str(data))
        return path

    def _new(self, name: str) -> Path:
        return self.folder / f"{next(_NUMBERS)}-{name}"

    def _made(self, *argv: str) -> str:
        lines = self._gpg("--status-fd", "1", *argv).splitlines()
        return next(line.split()[3] for line in lines if "KEY_CREATED" in line)

    def _gpg(self, *argv: str) -> str:
        # The times of keys and signatures are the test's; a key "from the future" of a faked clock is meant.
        common = ["--homedir", str(self.home), "--batch", "--yes", "--passphrase", "", "--pinentry-mode", "loopback"]
        command = ["gpg", "--quiet", "--ignore-time-conflict", "--ignore-valid-from", *common, *argv]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    """Makes keys and signatures in a home of its own."""
    with Signer.at(tmp_path_factory.mktemp("gpg")) as made:
        yield made


@pytest.fixture(scope="module")
def maker(signer: Signer) -> str:
    """The fingerprint of the key that is pinned."""
    return signer.key("maker")
