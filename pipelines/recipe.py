"""What goes into a build, and when are two builds the same?

Variant → Recipe: elements in layers, their closure, the environment, the disk-image-create command. Pure, but for
reading the elements' files; the fingerprint needs no network and no build.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines import manifest
from pipelines.errors import CatalogError
from pipelines.variant import Base, Variant

# Raise it when the way a build is put together changes in a manner that no element or catalog field shows.
LAYOUT_VERSION = "1"
_OURS = Path(__file__).resolve().parent.parent / "elements"
_OPERATING_SYSTEM = {
    ("debian", "bootstrap"): "debian-minimal",
    ("ubuntu", "cloud-image"): "ubuntu",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """Elements that belong together; `key` chains over this layer and all before it."""

    name: str
    elements: tuple[str, ...]
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a variant is built, wherever that happens.

    `closure` maps each element, ours and DIB's, dependencies first, to its folder. `environment` is what the variant
    asks of the elements; what depends on the host and the build is added by `command`. `parts` maps each input in an
    operator's words to its digest; the fingerprint is over all of them. `layer_of` maps an element to the first layer
    that needs it.
    """

    variant: str
    layers: tuple[Layer, ...]
    closure: Mapping[str, Path]
    layer_of: Mapping[str, str]
    environment: Mapping[str, str]
    packages: tuple[str, ...]
    compression: str
    architecture: str
    parts: Mapping[str, str]
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A program to run: its argv and its whole environment."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


def resolve(variant: Variant) -> Recipe:
    """The recipe of a variant; CatalogError when it cannot be built, or names an element that does not exist."""
    requested = _layer_elements(variant)
    closures = _cumulative_closures(requested)
    closure = closures["variant"]
    environments = _environments(variant)
    parts = _parts(variant, closure, environments)
    layer_of: dict[str, str] = {}
    for layer, known in closures.items():
        layer_of |= {element: layer for element in known if element not in layer_of}
    return Recipe(
        variant=variant.name,
        layers=_chain(requested, layer_of, parts),
        closure=closure,
        layer_of=layer_of,
        environment={name: value for layer in environments.values() for name, value in layer.items()},
        packages=variant.packages,
        compression=variant.disk.compression,
        architecture=_base(variant).architecture,
        parts=parts,
        fingerprint=manifest.digest(parts),
    )


def command(recipe: Recipe, folder: Path, cache: Path, mirrors: Mapping[str, str]) -> Command:
    """The disk-image-create run that makes `folder`/image.qcow2.

    `mirrors` is what the host lends (DIB_DISTRIBUTION_MIRROR and so on); the catalog has the last word. The program
    runs in mount and process namespaces of its own, so that its mounts and processes end with it, however it ends.
    """
    dib = [_program(), "-n", "-a", recipe.architecture, "-t", "qcow2", "--no-tmpfs"]
    dib += ["--qemu-img-options", f"compression_type={recipe.compression}", "-o", str(folder / "image")]
    dib += ["-p", ",".join(recipe.packages)] if recipe.packages else []
    dib += [element for layer in recipe.layers for element in layer.elements]
    # setpriv: where we are killed without a chance to clean up, unshare and with it the namespaces end too.
    namespaces = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")
    build = {
        "ELEMENTS_PATH": str(_OURS),
        "DIB_IMAGE_CACHE": str(cache),
        # Shared by all builds, apt's archive would be locked against the second of two, and grow for ever.
        "DIB_APT_LOCAL_CACHE": "0",
        "DIB_LOCKFILES": str(cache / "locks"),
        "DIB_GPU_IMAGE_BUILD_ID": folder.name,
        "DIB_NO_TIMESTAMP": "1",
        "TMP_DIR": str(folder / "scratch"),
    }
    return Command(argv=(*namespaces, "--mount-proc", *dib), environment={**mirrors, **recipe.environment, **build})


def _program() -> str:
    """disk-image-create on PATH, else the one beside our own interpreter (an environment that is not activated)."""
    beside = str(Path(sys.executable).parent)
    path = f"{os.environ.get('PATH', os.defpath)}:{beside}"
    return shutil.which("disk-image-create", path=path) or f"{beside}/disk-image-create"


def dib_version() -> str:
    """diskimage-builder's version."""
    return importlib.metadata.version("diskimage-builder")


def _base(variant: Variant) -> Base:
    if variant.base is None:
        raise CatalogError(f"{variant.name} has no base and cannot be built", remedy="Give it a base in images.yaml.")
    return variant.base


def _layer_elements(variant: Variant) -> dict[str, tuple[str, ...]]:
    base = _base(variant)
    try:
        operating_system = _OPERATING_SYSTEM[base.distribution, base.source]
    except KeyError:
        raise CatalogError(
            f"{variant.name}: a {base.distribution} guest from a {base.source} cannot be built",
            remedy="It is not supported yet. What is: "
            + ", ".join(f"{d} from a {s}" for d, s in _OPERATING_SYSTEM)
            + ".",
        ) from None
    kernel = ("driver-prerequisites",) if variant.gpu else ("target-kernel",)
    driver = ("nvidia-driver",) if variant.gpu else ()
    toolkit = ("cuda-toolkit",) if variant.cuda.toolkit else ()
    return {
        "base": (operating_system, "cloud-guest", "grow-root", *kernel),
        "driver": driver + toolkit,
        "variant": (*variant.elements, "guest-identity", "gpt-disk", "seal-guest"),
    }


def _environments(variant: Variant) -> dict[str, dict[str, str]]:
    """What each layer's elements read. The catalog's own `environment` may be meant for any of them: the first."""
    base = _base(variant)
    bottom = {"DIB_RELEASE": base.codename, "PYTHONHASHSEED": "0"}  # DIB keeps its elements in a Python set
    if base.distribution == "debian":
        bottom["DIB_DEBIAN_COMPONENTS"] = "main,contrib,non-free,non-free-firmware" if variant.gpu else "main"
    if base.source == "cloud-image":
        folder, _, name = (base.url or "").rpartition("/")
        bottom |= {"DIB_CLOUD_IMAGES": folder, "BASE_IMAGE_FILE": name, "SHA256SUMS": base.sha256sums_url or ""}
    driver = {}
    if variant.driver is not None and variant.gpu:
        driver = {"DIB_NVIDIA_MODULES": variant.driver.modules, "DIB_NVIDIA_BRANCH": str(variant.driver.branch or "")}
    top = {
        "DIB_GPU_IMAGE_VARIANT": variant.name,
        "DIB_GPT_DISK_SIZE": str(variant.disk.size),
        "DIB_GPT_DISK_ROOT_FSTYPE": variant.disk.filesystem,
    }
    return {"base": bottom | dict(variant.environment), "driver": driver, "variant": top}


def _parts(
    variant: Variant, closure: Mapping[str, Path], environments: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    shaping: dict[str, object] = {
        "base": _base(variant),
        "kernel": variant.kernel,
        "driver": variant.driver,
        "CUDA": variant.cuda,
        "disk": variant.disk,
        "packages": variant.packages,
        "diskimage-builder": dib_version(),
        "layout": LAYOUT_VERSION,
        **{f"elements of the {layer} layer": elements for layer, elements in _layer_elements(variant).items()},
        **{f"environment of the {layer} layer": values for layer, values in environments.items()},
    }
    parts = {name: manifest.digest(_plain(value)) for name, value in shaping.items()}
    return parts | {f"element {name}": element_digest(path) for name, path in sorted(closure.items())}


def _chain(
    requested: Mapping[str, tuple[str, ...]], layer_of: Mapping[str, str], parts: Mapping[str, str]
) -> tuple[Layer, ...]:
    fields = {
        "base": ("base", "kernel", "diskimage-builder", "layout"),
        "driver": ("driver", "CUDA"),
        "variant": ("disk", "packages"),
    }
    layers: list[Layer] = []
    for name, elements in requested.items():
        names = [*fields[name], f"elements of the {name} layer", f"environment of the {name} layer"]
        names += [f"element {element}" for element, layer in layer_of.items() if layer == name]
        previous = layers[-1].key if layers else ""
        key = manifest.digest([previous, {part: parts[part] for part in names}])
        layers.append(Layer(name=name, elements=elements, key=key))
    return tuple(layers)


def _cumulative_closures(requested: Mapping[str, tuple[str, ...]]) -> dict[str, Mapping[str, Path]]:
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
        found = element_dependencies.get_elements(requested, f"{_OURS}:{paths.get_path('elements')}")
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
            total.update(f"{path.relative_to(folder)}\0{path.stat().st_mode & 0o111:o}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value
