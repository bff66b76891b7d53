"""OpenPGP keys made for the tests, instead of a distribution's and a vendor's."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A key pair in a folder of its own."""

    folder: Path

    @property
    def fingerprint(self) -> str:
        """40 hexadecimal digits."""
        return (self.folder / "fingerprint").read_text()

    @property
    def keyring(self) -> Path:
        """The public key as /usr/share/keyrings has them."""
        return self.folder / "public.gpg"

    def sign_inline(self, path: Path, signed: Path) -> None:
        """The text of `path` with its signature around it: InRelease."""
        self._sign("--clear-sign", path, signed)

    def sign_detached(self, path: Path, signature: Path, *, armor: bool = False) -> None:
        """A signature beside the file: Release.gpg, SHA256SUMS.gpg (binary, as Ubuntu's is)."""
        self._sign("--detach-sign", path, signature, *(["--armor"] if armor else []))

    @property
    def armored(self) -> bytes:
        """The public key as text, as /etc/pki/rpm-gpg has them."""
        with self.home() as home:
            return gpg(home, "--armor", "--export")

    @contextmanager
    def home(self) -> Iterator[Path]:
        """A home of gpg's that has the key, for programs that call gpg themselves."""
        with _home() as home:
            gpg(home, "--import", self.folder / "secret.gpg")
            yield home

    def _sign(self, how: str, path: Path, result: Path, *options: str) -> None:
        with self.home() as home:
            gpg(home, "--yes", *options, "--output", result, how, path)


def make(folder: Path, owner: str) -> Key:
    """The key in `folder`, made when there is none yet."""
    if not (folder / "fingerprint").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with _home() as home:
            gpg(home, "--passphrase", "", "--quick-generate-key", owner, "ed25519", "sign", "never")
            (folder / "public.gpg").write_bytes(gpg(home, "--export"))
            (folder / "secret.gpg").write_bytes(gpg(home, "--export-secret-keys"))
            listed = gpg(home, "--with-colons", "--list-keys").decode().splitlines()
        fields = next(line.split(":") for line in listed if line.startswith("fpr:"))
        (folder / "fingerprint").write_text(fields[9])
    return Key(folder=folder)


def gpg(home: Path, *arguments: str | Path) -> bytes:
    """Run gpg on a home of its own."""
    argv = ["gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", *arguments]
    return subprocess.run(argv, check=True, capture_output=True).stdout


@contextmanager
def _home() -> Iterator[Path]:
    # Directly below /tmp: the path of gpg-agent's socket must be short.
    with tempfile.TemporaryDirectory(prefix="gpg-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        try:
            yield Path(folder)
        finally:
            subprocess.run(["gpgconf", "--homedir", folder, "--kill", "gpg-agent"], check=False, capture_output=True)
