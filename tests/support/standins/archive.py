"""Signed apt repositories made of a few packages."""

import lzma
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.support.standins.keys import Key

COMPONENTS = ("main", "restricted", "universe", "multiverse")


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """One suite: `packages` are ours, in main; `index` is a real repository's Packages.xz, served as universe."""

    name: str
    packages: Iterable[Path] = ()
    index: Path | None = None


def publish(root: Path, suites: Iterable[Suite], key: Key, *, origin: str) -> None:
    """A package repository below `root` with suites and components, as Debian and Ubuntu have them."""
    for suite in suites:
        pool = root / "pool" / "standin" / suite.name
        _copy(suite.packages, pool)
        dists = root / "dists" / suite.name
        for component in COMPONENTS:
            (dists / component / "binary-amd64").mkdir(parents=True, exist_ok=True)
            (dists / component / "binary-amd64/Packages").write_text("")
        (dists / "main/binary-amd64/Packages").write_bytes(_ftparchive(root, "packages", pool.relative_to(root)))
        if suite.index is not None:
            # The uncompressed one beside it is never asked for, but apt wants to find its digest in Release.
            (dists / "universe/binary-amd64/Packages").write_bytes(lzma.decompress(suite.index.read_bytes()))
            shutil.copyfile(suite.index, dists / "universe/binary-amd64/Packages.xz")
        about = {
            "Origin": origin,
            "Label": origin,
            "Suite": suite.name,
            "Codename": suite.name.split("-")[0],
            "Architectures": "amd64",
            "Components": " ".join(COMPONENTS),
        }
        _sign(dists, _release(root, dists.relative_to(root), about), key)


def publish_flat(root: Path, packages: Iterable[Path], key: Key, *, label: str) -> None:
    """A flat repository, as NVIDIA's is: packages, index and signature in one folder."""
    _copy(packages, root)
    (root / "Packages").write_bytes(_ftparchive(root, "packages", Path(".")))
    _sign(root, _release(root, Path("."), {"Origin": "NVIDIA", "Label": label}), key)


def _copy(packages: Iterable[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        shutil.copyfile(package, folder / package.name)


def _release(root: Path, folder: Path, about: dict[str, str]) -> bytes:
    options = [f"-oAPT::FTPArchive::Release::{name}={value}" for name, value in about.items()]
    return _ftparchive(root, *options, "release", folder)


def _sign(folder: Path, release: bytes, key: Key) -> None:
    (folder / "Release").write_bytes(release)
    key.sign_inline(folder / "Release", folder / "InRelease")
    key.sign_detached(folder / "Release", folder / "Release.gpg", armor=True)


def _ftparchive(root: Path, *arguments: str | Path) -> bytes:
    return subprocess.run(["apt-ftparchive", *arguments], cwd=root, check=True, capture_output=True).stdout
