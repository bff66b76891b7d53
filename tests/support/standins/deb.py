"""A .deb made from a few lines."""

import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Deb:
    """A package. `files` maps a path in the guest to its content; what starts with #! can be run.

    `links` maps a path to where it leads, `scripts` a maintainer script's name to its text. `fields` are more lines of
    the control file: Depends, Provides, Conflicts.
    """

    name: str
    version: str
    architecture: str = "amd64"
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)

    @property
    def filename(self) -> str:
        """Its file's name, without the epoch, as apt names it."""
        return f"{self.name}_{self.version.split(':')[-1]}_{self.architecture}.deb"


def build(packages: Iterable[Deb], folder: Path) -> tuple[Path, ...]:
    """Build packages into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_build(package, folder) for package in packages)


def _build(package: Deb, folder: Path) -> Path:
    target = folder / package.filename
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        root.chmod(0o755)
        for path, content in package.files.items():
            write(root / path.lstrip("/"), content)
        for path, leads_to in package.links.items():
            (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            (root / path.lstrip("/")).symlink_to(leads_to)
        for name, script in package.scripts.items():
            write(root / "DEBIAN" / name, script)
        write(root / "DEBIAN/control", _control(package))
        argv = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", root, target]
        subprocess.run(argv, check=True, capture_output=True)
    return target


def write(path: Path, content: str | bytes) -> None:
    """Write a file of a guest; what starts with #! can be run."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o755 if data.startswith(b"#!") else 0o644)


def _control(package: Deb) -> str:
    fields = {
        "Package": package.name,
        "Version": package.version,
        "Architecture": package.architecture,
        "Maintainer": "The tests <tests@example.org>",
        "Section": "misc",
        "Priority": "optional",
        **package.fields,
        "Description": "stand-in for a vendor's package of this name",
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items())
