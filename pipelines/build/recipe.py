"""What goes into a build, and when are two builds the same?

Variant → Recipe: elements in layers, their closure, the environment, the disk-image-create command. Pure, but for
reading the elements' files; the fingerprint needs no network and no build.
"""

import dataclasses
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.build import element_selection, no_fsync
from pipelines.build import elements as closures
from pipelines.build import secrets as build_secrets
from pipelines.catalog.variant import Variant
from pipelines.util import files as util_files
from pipelines.util import paths
from pipelines.util.errors import CatalogError

# Raise it when the way a build is put together changes in a manner that no element or catalog field shows.
LAYOUT_VERSION = "3"
_BETWEEN_RUNS = ("begin-with-tree", "end-with-tree")
_DRIVER_FILES = ("runfile", "NVIDIA's keyring", "local packages", "module-signing certificate")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """Elements that belong together, and what they are told; `key` chains over this layer and all before it."""

    name: str
    elements: tuple[str, ...]
    environment: Mapping[str, str]
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a variant is built, wherever that happens.

    `closure` maps each element, ours and DIB's, dependencies first, to its folder. What depends on the host and the
    build is added to the layers' environment by `command`. `parts` maps each input in an operator's words to its
    digest; the fingerprint is over all of them. `layer_of` maps an element to the first layer that needs it. `secrets`
    are the names of those that it takes, never what they are.
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
    """One disk-image-create run over the first layers of a recipe, with the elements as they are in a folder.

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

    `digests` are those of its files from outside, by name, as inputs.py knows them.
    """
    if variant.base is None:
        raise CatalogError(f"{variant.name} has no base and cannot be built", remedy="Give it a base in images.yaml.")
    requested = element_selection.elements(variant)
    closures_ = closures.cumulative(requested)
    closure = closures_["variant"]
    layer_of: dict[str, str] = {}
    for layer, known in closures_.items():
        layer_of |= {element: layer for element in known if element not in layer_of}
    environments = element_selection.environments(variant)
    for name, value in variant.environment.items():
        environments[_reader(name, closure, layer_of)][name] = value
    parts = _parts(variant, closure, environments, digests or {})
    return Recipe(
        variant=variant.name,
        layers=_chain(requested, environments, layer_of, parts),
        closure=closure,
        layer_of=layer_of,
        packages=variant.packages,
        secrets=tuple(sorted(variant.secrets)),
        compression=variant.disk.compression,
        distribution=variant.base.distribution,
        architecture=variant.base.architecture,
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

    `mirrors` is what the host lends (DIB_DISTRIBUTION_MIRROR and so on); the catalog has the last word. `files` are
    those from outside, by the variable that tells an element where each is. The program runs in mount and process
    namespaces of its own, so that its mounts and processes end with it, however it ends. Where it takes secrets it
    reads them from its standard input first, as secrets.py sends them.
    """
    scratch = folder / "scratch"
    # setpriv: where we are killed without a chance to clean up, unshare and with it the namespaces end too.
    namespaces = (
        "setpriv",
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    )
    given = {variable: str(path) for variable, path in files.items()}
    receiver: tuple[str, ...] = ()
    if recipe.secrets:
        receiver = build_secrets.receiver(scratch / "secrets")
        given["DIB_GPU_IMAGE_SECRETS"] = str(scratch / "secrets")
    said = {name: value for layer in run.layers for name, value in layer.environment.items()}
    return Command(
        argv=(*namespaces, *receiver, *_disk_image_create(recipe, run, scratch)),
        environment={**mirrors, **said, **given, **_of_the_run(run, folder, cache)},
    )


def _disk_image_create(recipe: Recipe, run: Run, scratch: Path) -> list[str]:
    dib = [sys.executable, "-I", no_fsync.__file__, _program()]
    dib += ["-n", "-a", recipe.architecture, "-t", "raw", "--no-tmpfs", "-o", str(scratch / "image")]
    dib += ["-p", ",".join(recipe.packages)] if recipe.packages and not run.ends_with_tree else []
    dib += ["begin-with-tree"] if run.begins_with_tree else []
    dib += [element for layer in run.layers for element in layer.elements]
    return dib + (["end-with-tree"] if run.ends_with_tree else [])


def _of_the_run(run: Run, folder: Path, cache: Path) -> dict[str, str]:
    """What diskimage-builder is told of this run alone."""
    scratch = folder / "scratch"
    return {
        "ELEMENTS_PATH": str(run.elements),
        "DIB_IMAGE_CACHE": str(cache),
        # Shared by all builds, apt's archive would be locked against the second of two, and grow for ever.
        "DIB_APT_LOCAL_CACHE": "0",
        "DIB_LOCKFILES": str(cache / "locks"),
        "DIB_NO_TIMESTAMP": "1",
        # Its own guess of the disk's size takes a walk over the tree, and gpt-disk does not ask for it.
        "DIB_IMAGE_SIZE": "1",
        "TMP_DIR": str(scratch),
        **({"DIB_TREE": str(scratch / "tree")} if run.begins_with_tree or run.ends_with_tree else {}),
        **({"DIB_PREPARE_INITRAMFS": "1"} if run.prepares_initramfs else {}),
        # A tree that several builds share knows nothing of the one that made it.
        **({} if run.ends_with_tree else {"DIB_GPU_IMAGE_BUILD_ID": folder.name}),
    }


def _program() -> str:
    """disk-image-create on PATH, else the one beside our own interpreter (an environment that is not activated)."""
    beside = str(Path(sys.executable).parent)
    path = f"{os.environ.get('PATH', os.defpath)}:{beside}"
    return shutil.which("disk-image-create", path=path) or f"{beside}/disk-image-create"


def _reader(name: str, closure: Mapping[str, Path], layer_of: Mapping[str, str]) -> str:
    """The layer of the first element that reads a variable; the first layer when none does, DIB itself perhaps."""
    for element, folder in closure.items():
        if closures.mentions(folder, name):
            return layer_of[element]
    return "base"


def _parts(
    variant: Variant,
    closure: Mapping[str, Path],
    environments: Mapping[str, Mapping[str, str]],
    digests: Mapping[str, str],
) -> dict[str, str]:
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
        "diskimage-builder": closures.dib_version(),
        "layout": [LAYOUT_VERSION, *(closures.element_digest(paths.ELEMENTS / name) for name in _BETWEEN_RUNS)],
        **{
            f"elements of the {layer} layer": elements
            for layer, elements in element_selection.elements(variant).items()
        },
        **{f"environment of the {layer} layer": values for layer, values in environments.items()},
    }
    parts = {name: util_files.canonical_digest(_plain(value)) for name, value in shaping.items()}
    parts |= {f"element {name}": closures.element_digest(path) for name, path in sorted(closure.items())}
    return parts | {name: digest for name, digest in digests.items() if digest}


def _chain(
    requested: Mapping[str, tuple[str, ...]],
    environments: Mapping[str, Mapping[str, str]],
    layer_of: Mapping[str, str],
    parts: Mapping[str, str],
) -> tuple[Layer, ...]:
    fields = {
        "base": ("base", "base image", "kernel", "diskimage-builder", "layout"),
        "driver": ("driver", "CUDA", "NVIDIA's repository", "secrets", *_DRIVER_FILES),
        "variant": ("containers", "disk", "packages"),
    }
    layers: list[Layer] = []
    for name, elements in requested.items():
        names = [*fields[name], f"elements of the {name} layer", f"environment of the {name} layer"]
        names += [f"element {element}" for element, layer in layer_of.items() if layer == name]
        previous = layers[-1].key if layers else ""
        key = util_files.canonical_digest([previous, {part: parts.get(part, "") for part in names}])
        layers.append(Layer(name=name, elements=elements, environment=environments[name], key=key))
    return tuple(layers)


def _local(value: object) -> bool:
    return isinstance(value, Path) or (isinstance(value, str) and value.startswith("file://"))


def _plain(value: object) -> object:
    """A value as JSON has it. Where a file lies on this host shapes no image; its digest does, and is a part itself."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key: each for key, each in dataclasses.asdict(value).items() if not _local(each)}
    return value
