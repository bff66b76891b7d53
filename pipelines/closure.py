"""Which elements does an element need, and what is in them?

As diskimage-builder finds them: ours before its own. An element's digest is over what shapes an image.
"""

import functools
import hashlib
import importlib.metadata
import logging
from collections.abc import Mapping
from pathlib import Path

from pipelines.errors import CatalogError

OURS = Path(__file__).resolve().parent.parent / "elements"


def cumulative(requested: Mapping[str, tuple[str, ...]]) -> dict[str, Mapping[str, Path]]:
    """Layer → the closure of its elements and those of all layers before it."""
    sofar: tuple[str, ...] = ()
    closures = {}
    for layer, elements in requested.items():
        sofar += elements
        closures[layer] = _closure(sofar)
    return closures


@functools.cache
def _closure(requested: tuple[str, ...]) -> Mapping[str, Path]:
    """Elements and all they depend on → their folders, dependencies first, as DIB finds them: ours before its own."""
    from diskimage_builder import element_dependencies, paths  # noqa: PLC0415  (0.1 s that `--list` need not spend)

    logging.getLogger(element_dependencies.__name__).setLevel(logging.ERROR)  # it warns of our `dkms`, which is meant
    try:
        found = element_dependencies.get_elements(requested, f"{OURS}:{paths.get_path('elements')}")
    except element_dependencies.MissingElementException as error:
        raise CatalogError(str(error), remedy="Correct `elements` in images.yaml; `ls elements` shows ours.") from error
    folders = {name: Path(path) for name, path in found}
    ordered: dict[str, Path] = {}
    for name in requested:
        _visit(name, folders, ordered)
    for name in sorted(folders):
        _visit(name, folders, ordered)
    return ordered


def _visit(name: str, folders: Mapping[str, Path], ordered: dict[str, Path]) -> None:
    if name in ordered or name not in folders:
        return
    dependencies = folders[name] / "element-deps"
    for needed in dependencies.read_text().split() if dependencies.exists() else ():
        _visit(needed, folders, ordered)
    ordered[name] = folders[name]


@functools.cache
def element_digest(folder: Path) -> str:
    """sha256 over an element's files: relative path, executable or not, content. READMEs do not shape the image."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in {".rst", ".pyc"} and "test-elements" not in path.parts:
            total.update(f"{path.relative_to(folder)}\0{_executable(path)}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _executable(path: Path) -> str:
    """Its owner's bit alone says so, as in git: the others follow from the umask of whoever checked it out."""
    return "111" if path.stat().st_mode & 0o100 else "0"


def dib_version() -> str:
    """diskimage-builder's version."""
    return importlib.metadata.version("diskimage-builder")
