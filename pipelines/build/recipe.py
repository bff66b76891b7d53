"""Recipe of a build: its elements in layers, their environment, the disk-image-create command and the fingerprint.

Pure, but for reading the elements' files; the fingerprint needs no network and no build.
"""

import dataclasses
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.build import element_selection, no_fsync
from pipelines.build import elements as build_elements
from pipelines.build import secrets as build_secrets
from pipelines.catalog.variant import Variant
from pipelines.util import files as util_files
from pipelines.util import paths

# Raise it when builds are put together differently in a way that no element and no catalog field shows.
LAYOUT_VERSION = "3"
_BETWEEN_RUNS = ("begin-with-tree", "end-with-tree")
_DRIVER_FILES = ("runfile", "NVIDIA's keyring", "local packages", "module-signing certificate")
# The parts, besides its elements and their environment, that each layer's key is over.
_KEY_PARTS = {
    "base": ("base", "base image", "kernel", "diskimage-builder", "layout"),
    "driver": ("driver", "CUDA", "NVIDIA's repository", "secrets", *_DRIVER_FILES),
    "variant": ("containers", "disk", "packages"),
}
# A run's mounts and processes end with it, however it ends. setpriv: where we are killed without a chance to clean up,
# unshare and with it the namespaces end too.
_IN_NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """Elements that belong together, with their environment; `key` is over this layer and all before it."""

    name: str
    elements: tuple[str, ...]
    environment: Mapping[str, str]
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a variant is built, on any host.

    `closure` maps each element, ours and DIB's, dependencies first, to its folder; `layer_of` maps it to the first
    layer that needs it. `command` adds what depends on the host and the build to the layers' environment. `parts` maps
    each input, by an operator's name for it, to its digest; the fingerprint is over all of them. `secrets` are names,
    never contents.
    """

    variant: str
    layers: tuple[Layer, ...]
    closure: Mapping[str, Path]
    layer_of: Mapping[str, str]
    packages: tuple[str, ...]
    secrets: tuple[str, ...]
    compression: str
    distribution: str
    architecture: str
    parts: Mapping[str, str]
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One disk-image-create run over the first layers of a recipe, with the elements in a folder.

    It begins with the tree of the layers before the last of these, or with nothing; it ends with a tree or a disk.
    """

    layers: tuple[Layer, ...]
    elements: Path = paths.ELEMENTS
    begins_with_tree: bool = False
    ends_with_tree: bool = False
    prepares_initramfs: bool = False  # for the run that makes the disk


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A program to run: its argv and its whole environment."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


def resolve(variant: Variant, digests: Mapping[str, str] | None = None) -> Recipe:
    """The recipe of a variant; CatalogError when it cannot be built, or names an element that does not exist.

    `digests` are those of its inputs, by the names of inputs.resolver.
    """
    base = element_selection.declared_base(variant)
    requested = element_selection.elements(variant)
    closures = build_elements.cumulative(requested)
    closure = closures["variant"]
    # Backwards, so that the first layer with an element has the last word.
    layer_of = {element: layer for layer in reversed(closures) for element in closures[layer]}
    environments = _environments(variant, closure, layer_of)
    parts = _parts(variant, requested, environments, closure, digests or {})
    return Recipe(
        variant=variant.name,
        layers=_layers(requested, environments, layer_of, parts),
        closure=closure,
        layer_of=layer_of,
        packages=variant.packages,
        secrets=tuple(sorted(variant.secrets)),
        compression=variant.disk.compression,
        distribution=base.distribution,
        architecture=base.architecture,
        parts=parts,
        fingerprint=util_files.canonical_digest(parts),
    )


def whole(recipe: Recipe) -> Run:
    """All of a recipe in one run, from nothing to a disk."""
    return Run(layers=recipe.layers)


def command(
    recipe: Recipe, run: Run, folder: Path, cache: Path, *, mirrors: Mapping[str, str], files: Mapping[str, Path]
) -> Command:
    """The disk-image-create run that makes `folder`/scratch/image.raw, or `folder`/scratch/tree.

    `mirrors` are this host's (DIB_DISTRIBUTION_MIRROR and so on); the catalog's environment overrides them. `files` are
    the inputs, by the variable that tells an element where each is. Where the run takes secrets it reads them from its
    standard input first, as build.secrets sends them.
    """
    scratch = folder / "scratch"
    given = {variable: str(path) for variable, path in files.items()}
    receiver: tuple[str, ...] = ()
    if recipe.secrets:
        receiver = build_secrets.receiver(scratch / "secrets")
        given["DIB_GPU_IMAGE_SECRETS"] = str(scratch / "secrets")
    declared = {name: value for layer in run.layers for name, value in layer.environment.items()}
    return Command(
        argv=(*_IN_NAMESPACES, *receiver, *_disk_image_create(recipe, run, scratch)),
        environment={**mirrors, **declared, **given, **_run_environment(run, folder, cache)},
    )


def _disk_image_create(recipe: Recipe, run: Run, scratch: Path) -> list[str]:
    dib = [sys.executable, "-I", no_fsync.__file__, _program()]
    dib += ["-n", "-a", recipe.architecture, "-t", "raw", "--no-tmpfs", "-o", str(scratch / "image")]
    dib += ["-p", ",".join(recipe.packages)] if recipe.packages and not run.ends_with_tree else []
    dib += ["begin-with-tree"] if run.begins_with_tree else []
    dib += [element for layer in run.layers for element in layer.elements]
    return dib + (["end-with-tree"] if run.ends_with_tree else [])


def _run_environment(run: Run, folder: Path, cache: Path) -> dict[str, str]:
    """The variables of this run alone."""
    scratch = folder / "scratch"
    return {
        "ELEMENTS_PATH": str(run.elements),
        "DIB_IMAGE_CACHE": str(cache),
        # A cache of packages that all builds share would be locked against the second of two builds, and grow for ever.
        "DIB_APT_LOCAL_CACHE": "0",
        "DIB_LOCKFILES": str(cache / "locks"),
        "DIB_NO_TIMESTAMP": "1",
        # DIB's own estimate of the disk's size takes a walk over the tree, and gpt-disk does not use it.
        "DIB_IMAGE_SIZE": "1",
        "TMP_DIR": str(scratch),
        **({"DIB_TREE": str(scratch / "tree")} if run.begins_with_tree or run.ends_with_tree else {}),
        **({"DIB_PREPARE_INITRAMFS": "1"} if run.prepares_initramfs else {}),
        # A tree that several builds share must not name the one that made it.
        **({} if run.ends_with_tree else {"DIB_GPU_IMAGE_BUILD_ID": folder.name}),
    }


def _program() -> str:
    """disk-image-create on PATH, else the one beside our interpreter (a virtual environment that is not activated)."""
    beside = str(Path(sys.executable).parent)
    path = f"{os.environ.get('PATH', os.defpath)}:{beside}"
    return shutil.which("disk-image-create", path=path) or f"{beside}/disk-image-create"


def _environments(
    variant: Variant, closure: Mapping[str, Path], layer_of: Mapping[str, str]
) -> Mapping[str, Mapping[str, str]]:
    """Layer → its variables; one of the catalog's own belongs to the layer of the first element that reads it."""
    environments = element_selection.environments(variant)
    for name, value in variant.environment.items():
        environments[_reader(name, closure, layer_of)][name] = value
    return environments


def _reader(name: str, closure: Mapping[str, Path], layer_of: Mapping[str, str]) -> str:
    """The layer of the first element that reads a variable; the first layer when none does: DIB itself may read it."""
    return next(
        (layer_of[element] for element, folder in closure.items() if build_elements.mentions(folder, name)), "base"
    )


def _parts(
    variant: Variant,
    requested: Mapping[str, tuple[str, ...]],
    environments: Mapping[str, Mapping[str, str]],
    closure: Mapping[str, Path],
    digests: Mapping[str, str],
) -> dict[str, str]:
    """The digest of each input that shapes the image, by an operator's name for it."""
    shaping: dict[str, object] = {
        "base": variant.base,
        "kernel": variant.kernel,
        "driver": variant.driver,
        "CUDA": variant.cuda,
        "NVIDIA's repository": variant.nvidia_repository,
        "containers": variant.containers,
        "secrets": sorted(variant.secrets),
        "disk": variant.disk,
        "packages": variant.packages,
        "diskimage-builder": build_elements.dib_version(),
        "layout": [LAYOUT_VERSION, *(build_elements.element_digest(paths.ELEMENTS / name) for name in _BETWEEN_RUNS)],
        **{f"elements of the {layer} layer": elements for layer, elements in requested.items()},
        **{f"environment of the {layer} layer": values for layer, values in environments.items()},
    }
    parts = {name: util_files.canonical_digest(_plain(value)) for name, value in shaping.items()}
    parts |= {f"element {name}": build_elements.element_digest(path) for name, path in sorted(closure.items())}
    return parts | {name: digest for name, digest in digests.items() if digest}


def _layers(
    requested: Mapping[str, tuple[str, ...]],
    environments: Mapping[str, Mapping[str, str]],
    layer_of: Mapping[str, str],
    parts: Mapping[str, str],
) -> tuple[Layer, ...]:
    """The layers, each with a key over its parts and the key of the layer before it."""
    layers: list[Layer] = []
    for name, elements in requested.items():
        names = [*_KEY_PARTS[name], f"elements of the {name} layer", f"environment of the {name} layer"]
        names += [f"element {element}" for element, layer in layer_of.items() if layer == name]
        previous = layers[-1].key if layers else ""
        key = util_files.canonical_digest([previous, {part: parts.get(part, "") for part in names}])
        layers.append(Layer(name=name, elements=elements, environment=environments[name], key=key))
    return tuple(layers)


def _plain(value: object) -> object:
    """A value as JSON has it. A file's path on this host shapes no image; its digest does, and is a part itself."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key: each for key, each in dataclasses.asdict(value).items() if not _local(each)}
    return value


def _local(value: object) -> bool:
    return isinstance(value, Path) or (isinstance(value, str) and value.startswith("file://"))
