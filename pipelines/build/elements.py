"""Elements as diskimage-builder finds them, ours before its own: what each depends on, and a digest of its files."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.util import paths
from pipelines.util.errors import CatalogError

_NOT_IN_IMAGES = (".rst", ".pyc")  # files that shape no image
_REMEDY = "Correct `elements` in images.yaml; `ls elements` shows ours."


@dataclass(frozen=True, kw_only=True, slots=True)
class _Element:
    """An element's declarations: what it needs, and the (perhaps virtual) elements that it provides."""

    folder: Path
    needs: tuple[str, ...]
    provides: tuple[str, ...]


def cumulative(requested: Mapping[str, tuple[str, ...]]) -> dict[str, Mapping[str, Path]]:
    """Layer → the closure of its elements and those of all layers before it."""
    so_far: tuple[str, ...] = ()
    closures = {}
    for layer, elements in requested.items():
        so_far += elements
        closures[layer] = _closure(paths.ELEMENTS, so_far)
    return closures


@functools.cache
def element_digest(folder: Path) -> str:
    """sha256 over an element's files: relative path, executable or not, content. READMEs do not shape the image."""
    total = hashlib.sha256()
    for path, mode in _files(folder):
        # The owner's bit alone counts, as in git: the others depend on the umask at checkout.
        executable = "111" if mode & 0o100 else "0"
        total.update(f"{path.relative_to(folder)}\0{executable}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


@functools.cache
def mentions(folder: Path, variable: str) -> bool:
    """Whether an element's files mention a variable: then the element may read it."""
    return any(variable.encode() in path.read_bytes() for path, _ in _files(folder))


@functools.cache
def dib_version() -> str:
    """diskimage-builder's version."""
    return importlib.metadata.version("diskimage-builder")


@functools.cache
def _closure(ours: Path, requested: tuple[str, ...]) -> Mapping[str, Path]:
    """Elements and all they depend on → their folders, dependencies first; `ours` are found before DIB's own."""
    found = _found(ours, requested)
    ordered: dict[str, Path] = {}
    for name in (*requested, *sorted(found)):
        _visit(name, found, ordered)
    return ordered


def _found(ours: Path, requested: tuple[str, ...]) -> Mapping[str, _Element]:
    """The elements that disk-image-create would use.

    diskimage_builder.element_dependencies.get_elements has the same result, but reads all of DIB's elements each time;
    here only those that are needed are read, and once.
    """
    found: dict[str, _Element] = {}
    provider: dict[str, str] = {}
    queue, seen = deque(requested), set(requested)
    while queue:
        if (name := queue.popleft()) in provider:
            continue
        element = found[name] = _element(ours, name)
        for virtual in element.provides:
            if virtual in requested or virtual in provider:
                raise CatalogError(
                    f"the element {name} provides {virtual}, as {provider.get(virtual, virtual)} does already",
                    remedy=_REMEDY,
                )
            provider[virtual] = name
        queue.extend(need for need in element.needs if need not in seen)
        seen.update(element.needs)
    if "operating-system" not in provider:
        raise CatalogError(f"none of {', '.join(requested)} is an operating system", remedy=_REMEDY)
    return {name: element for name, element in found.items() if name not in provider}


def _visit(name: str, found: Mapping[str, _Element], ordered: dict[str, Path]) -> None:
    if name in ordered or name not in found:
        return
    for needed in found[name].needs:
        _visit(needed, found, ordered)
    ordered[name] = found[name].folder


@functools.cache
def _element(ours: Path, name: str) -> _Element:
    """An element by its name; CatalogError when it does not exist."""
    folder = next((place / name for place in (ours, _dib()) if (place / name).is_dir()), None)
    if folder is None:
        raise CatalogError(f"there is no element {name}", remedy=_REMEDY)
    return _Element(folder=folder, needs=_lines(folder / "element-deps"), provides=_lines(folder / "element-provides"))


def _lines(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    return tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """An element's files with their modes, READMEs and tests left out, in a fixed order."""
    places = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "test-elements"]
        places += [Path(place, name) for name in names if not name.endswith(_NOT_IN_IMAGES)]
    for path in sorted(places):
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            yield path, mode


@functools.cache
def _dib() -> Path:
    """The folder of diskimage-builder's own elements, found without importing it."""
    package = importlib.util.find_spec("diskimage_builder")
    assert package is not None  # a dependency of ours
    return Path(*(package.submodule_search_locations or ()), "elements").resolve()
