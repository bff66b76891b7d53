"""Layers of a build: taken from the cache, or made by a diskimage-builder run each and put into it.

Every layer but the last is cached: the guest's tree after it, packed, under a key over all that went into it. A build
starts from the last layer that is in the cache, if the package repositories still have what it was made from.

Each run gets a folder of its own with a copy of the elements, so that a checkout that changes meanwhile does not change
a build. An element whose layer is done leaves out the phases that it has run, and keeps what other elements read of it.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pipelines.build.recipe import Layer, Recipe, Run
from pipelines.cache import store
from pipelines.inputs import repositories
from pipelines.util import console, files, paths, process
from pipelines.util.errors import BuildError, PipelineError, ProgramError

KIND = "layers"
_SECONDS = 1800.0
# Everything that a tree has: owners by number, nanoseconds, holes, capabilities.
_TAR = ("tar", "--format=posix", "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*", "--sparse")

# Up to here a phase works on its own element's part of the tree, once.
_ONCE = (
    *("root.d", "extra-data.d", "pre-install.d", "install.d", "post-install.d", "post-root.d"),
    *("package-installs.yaml", "package-installs.json", "static", "init-scripts"),
)
_AT_THE_END = ("block-device.d", "pre-finalise.d", "finalise.d", "cleanup.d")
# These act for other elements: they install what those name, copy what those have in bin/, static/ or modprobe.d/. The
# phases named here are work of their own, done once.
FOR_OTHERS: Mapping[str, tuple[str, ...]] = {
    "dib-init-system": (),
    "dib-python": (),
    "dracut-regenerate": (),
    "install-bin": (),
    "install-static": (),
    "install-types": (),
    "modprobe": ("install.d",),
    "package-installs": (),
    "pkg-map": (),
    "source-repositories": (),
    "svc-map": (),
}
BETWEEN_RUNS = ("begin-with-tree", "end-with-tree", "no-block-device")


@dataclass(frozen=True, kw_only=True, slots=True)
class LayeredBuild:
    """One build: its recipe, its scratch folder, the cache, and what only this host brings to it.

    `host_environment` (mirrors, proxies) goes into the keys of the cached layers. `execute` runs diskimage-builder;
    `timed` shows the operator, and times, a stage of a layer.
    """

    recipe: Recipe
    scratch: Path
    cache: Path
    now: datetime
    host_environment: Mapping[str, str]
    execute: Callable[[Run], None]
    timed: Callable[[str, str], AbstractContextManager[None]]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that have elements."""
        return tuple(layer for layer in self.recipe.layers if layer.elements)

    @property
    def tree(self) -> Path:
        """The guest's tree between two runs."""
        return self.scratch / "tree"

    def key(self, layer: Layer) -> str:
        """The layer's key in the cache."""
        return files.canonical_digest([layer.key, dict(self.host_environment)])


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """How the guest's tree before the last run came about.

    `cached` maps what was taken from the cache to its key. `archives` maps each index of a package repository to its
    digest when the first of the layers used it: a later layer may read the index again, and the packages of the first
    are no newer for that.
    """

    cached: Mapping[str, str] = field(default_factory=dict)
    archives: Mapping[str, str] = field(default_factory=dict)


def build(job: LayeredBuild) -> Tree:
    """Make the disk in as few runs as the cache allows; each layer but the last is put into the cache."""
    tree = _tree(job, job.layers[:-1])
    _run(job, Run(layers=job.layers, begins_with_tree=True))
    return tree


def write_elements(recipe: Recipe, run: Run, folder: Path) -> None:
    """Make `folder` with the elements of the run's layers, each with the phases that it has in this run."""
    names = [layer.name for layer in run.layers]
    done = names[:-1] if run.begins_with_tree else []
    for element, source in recipe.closure.items():
        layer = recipe.layer_of[element]
        if layer not in names:
            continue
        left_out = [*FOR_OTHERS.get(element, _ONCE)] if layer in done else []
        left_out += _AT_THE_END if run.ends_with_tree else ()
        _copy(source, folder / element, left_out)
    for element in BETWEEN_RUNS:
        _copy(paths.ELEMENTS / element, folder / element, [])


def _tree(job: LayeredBuild, layers: tuple[Layer, ...]) -> Tree:
    """The tree after these layers: from the cache, else made from the tree before the last of them."""
    *before, layer = layers
    if found := _from_cache(job, layer):
        return found
    with store.making(job.cache, KIND, job.key(layer)):
        if found := _from_cache(job, layer):  # another build made it while this one waited
            return found
        earlier = _tree(job, tuple(before)) if before else Tree()
        _run(
            job,
            Run(
                layers=layers,
                begins_with_tree=bool(before),
                ends_with_tree=True,
                prepares_initramfs=layers == job.layers[:-1],
            ),
        )
        used = repositories.read((job.scratch / "tree.archives").read_text(encoding="utf-8"))
        tree = replace(earlier, archives={**used, **earlier.archives})
        if used:
            _to_cache(job, layer, tree.archives)
        else:
            why = "none of its package repositories can be checked for changes later"
            console.note(f"{job.recipe.variant}: the {layer.name} layer is not cached: {why}")
        return tree


def _run(job: LayeredBuild, run: Run) -> None:
    folder = job.scratch / "elements" / run.layers[-1].name
    write_elements(job.recipe, run, folder)
    job.execute(replace(run, elements=folder))


def _from_cache(job: LayeredBuild, layer: Layer) -> Tree | None:
    """Unpack a layer, if it is cached and no package repository has changed since."""
    key = job.key(layer)
    archives = store.facts(job.cache, KIND, key)
    if archives is None:
        return None
    if why := repositories.changed(archives):
        console.note(f"{job.recipe.variant}: the {layer.name} layer is built again: {why}")
        store.drop(job.cache, KIND, key)
        return None
    with store.reading(job.cache, KIND, key) as packed:
        if packed is None:
            return None
        with job.timed(layer.name, "take from cache"):
            _unpack(job, packed)
    return Tree(cached={f"{layer.name} layer": key}, archives=archives)


def _to_cache(job: LayeredBuild, layer: Layer, archives: Mapping[str, str]) -> None:
    """Pack the tree and put it into the cache. If that fails, the operator is warned, and the build goes on."""
    packed = job.scratch / "layer.tar.zst"
    about = f"{layer.name} layer, built for {job.recipe.variant}"
    try:
        with job.timed(layer.name, "put into cache"):
            _pack(job.tree, packed)
            store.put(job.cache, KIND, job.key(layer), packed, about=about, facts=archives, now=job.now)
    except (PipelineError, OSError) as error:
        if isinstance(error, PipelineError) and error.exit_code >= 128:  # an interrupt
            raise
        console.warn(f"{job.recipe.variant}: the {layer.name} layer is not cached: {error}")
    finally:
        packed.unlink(missing_ok=True)


def _unpack(job: LayeredBuild, packed: Path) -> None:
    prefix = process.as_root()
    extract = [*_TAR, "--extract", "--use-compress-program=zstd", f"--file={packed}", f"--directory={job.tree}"]
    job.tree.mkdir()
    try:
        process.run([*prefix, *extract], deadline=_SECONDS)
    except ProgramError as error:
        raise BuildError(
            f"{job.recipe.variant}: a layer from the cache cannot be unpacked: {error}",
            remedy="Free some disk space, or put the builds elsewhere with --builds DIR.",
        ) from error


def _pack(tree: Path, packed: Path) -> None:
    prefix = process.as_root()
    create = [*_TAR, "--create", "--use-compress-program=zstd -1 -T0", f"--file={packed}", f"--directory={tree}", "."]
    process.run([*prefix, *create], deadline=_SECONDS)
    if prefix:
        process.run([*prefix, "chown", f"{os.getuid()}:{os.getgid()}", str(packed)], deadline=60)


def _copy(source: Path, target: Path, left_out: list[str]) -> None:
    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name == "__pycache__" or (Path(folder) == source and name in left_out)]

    shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
