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

from pipelines import closure as closures
from pipelines import manifest, secrets, selection
from pipelines.errors import CatalogError
from pipelines.variant import Variant

# Raise it when the way a build is put together changes in a manner that no element or catalog field shows.
LAYOUT_VERSION = "2"
_DRIVER_FILES = ("runfile", "NVIDIA's keyring", "local packages", "module-signing certificate")


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
    that needs it. `secrets` are the names of those that it takes, never what they are.
    """

    variant: str
    layers: tuple[Layer, ...]
    closure: Mapping[str, Path]
    layer_of: Mapping[str, str]
    environment: Mapping[str, str]
    packages: tuple[str, ...]
    secrets: tuple[str, ...]
    compression: str
    distribution: str
    architecture: str
    parts: Mapping[str, str]
    fingerprint: str


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
    requested = selection.elements(variant)
    closures_ = closures.cumulative(requested)
    closure = closures_["variant"]
    environments = selection.environments(variant)
    parts = _parts(variant, closure, environments, digests or {})
    layer_of: dict[str, str] = {}
    for layer, known in closures_.items():
        layer_of |= {element: layer for element in known if element not in layer_of}
    return Recipe(
        variant=variant.name,
        layers=_chain(requested, layer_of, parts),
        closure=closure,
        layer_of=layer_of,
        environment={name: value for layer in environments.values() for name, value in layer.items()},
        packages=variant.packages,
        secrets=tuple(sorted(variant.secrets)),
        compression=variant.disk.compression,
        distribution=variant.base.distribution,
        architecture=variant.base.architecture,
        parts=parts,
        fingerprint=manifest.digest(parts),
    )


def command(
    recipe: Recipe, folder: Path, cache: Path, mirrors: Mapping[str, str], files: Mapping[str, Path]
) -> Command:
    """The disk-image-create run that makes `folder`/image.qcow2.

    `mirrors` is what the host lends (DIB_DISTRIBUTION_MIRROR and so on); the catalog has the last word. `files` are
    those from outside, by the variable that tells an element where each is. The program runs in mount and process
    namespaces of its own, so that its mounts and processes end with it, however it ends. Where it takes secrets it
    reads them from its standard input first, as secrets.py sends them.
    """
    dib = [_program(), "-n", "-a", recipe.architecture, "-t", "qcow2", "--no-tmpfs"]
    dib += ["--qemu-img-options", f"compression_type={recipe.compression}", "-o", str(folder / "image")]
    dib += ["-p", ",".join(recipe.packages)] if recipe.packages else []
    dib += [element for layer in recipe.layers for element in layer.elements]
    # setpriv: where we are killed without a chance to clean up, unshare and with it the namespaces end too.
    namespaces = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")
    given = {variable: str(path) for variable, path in files.items()}
    inside = ["--mount-proc"]
    if recipe.secrets:
        place = folder / "scratch" / "secrets"
        inside += secrets.receiver(place)
        given["DIB_GPU_IMAGE_SECRETS"] = str(place)
    build = {
        "ELEMENTS_PATH": str(closures.OURS),
        "DIB_IMAGE_CACHE": str(cache),
        # Shared by all builds, apt's archive would be locked against the second of two, and grow for ever.
        "DIB_APT_LOCAL_CACHE": "0",
        "DIB_LOCKFILES": str(cache / "locks"),
        "DIB_GPU_IMAGE_BUILD_ID": folder.name,
        "DIB_NO_TIMESTAMP": "1",
        "TMP_DIR": str(folder / "scratch"),
    }
    return Command(argv=(*namespaces, *inside, *dib), environment={**mirrors, **recipe.environment, **given, **build})


def _program() -> str:
    """disk-image-create on PATH, else the one beside our own interpreter (an environment that is not activated)."""
    beside = str(Path(sys.executable).parent)
    path = f"{os.environ.get('PATH', os.defpath)}:{beside}"
    return shutil.which("disk-image-create", path=path) or f"{beside}/disk-image-create"


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
        "layout": LAYOUT_VERSION,
        **{f"elements of the {layer} layer": elements for layer, elements in selection.elements(variant).items()},
        **{f"environment of the {layer} layer": values for layer, values in environments.items()},
    }
    parts = {name: manifest.digest(_plain(value)) for name, value in shaping.items()}
    parts |= {f"element {name}": closures.element_digest(path) for name, path in sorted(closure.items())}
    return parts | {name: digest for name, digest in digests.items() if digest}


def _chain(
    requested: Mapping[str, tuple[str, ...]], layer_of: Mapping[str, str], parts: Mapping[str, str]
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
        key = manifest.digest([previous, {part: parts.get(part, "") for part in names}])
        layers.append(Layer(name=name, elements=elements, key=key))
    return tuple(layers)


def _local(value: object) -> bool:
    return isinstance(value, Path) or (isinstance(value, str) and value.startswith("file://"))


def _plain(value: object) -> object:
    """A value as JSON has it. Where a file lies on this host shapes no image; its digest does, and is a part itself."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key: each for key, each in dataclasses.asdict(value).items() if not _local(each)}
    return value
