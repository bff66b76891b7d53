"""How much of a build is there already?

Every layer but the last is kept when it has been made: the guest's tree after it, packed, under a key over all that
went in. A build begins with the last layer that is kept, if the package archives still have what it was made from.
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
# These act for other elements: they install what those name, copy what those have in bin/, static/ or modprobe.d/. What
# stands behind them is work of their own, done once.
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
class Site:
    """One build: its recipe, where its scratch space is, the cache, and what only this host brings to it.

    `lent` (mirrors, proxies) goes into the layers' keys. `execute` runs diskimage-builder; `timed` tells the operator,
    and the timings, what goes on, given a layer and a stage. `taken` is filled with what came out of the cache, `seen`
    with what the package archives said when the first of the build's layers used them: a later layer may read the lists
    of packages again, and the packages of the first are no newer for that.
    """

    plan: Recipe
    scratch: Path
    cache: Path
    now: datetime
    lent: Mapping[str, str]
    execute: Callable[[Run], None]
    timed: Callable[[str, str], AbstractContextManager[None]]
    taken: dict[str, str] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)

    @property
    def tree(self) -> Path:
        """Where the guest's tree is between two runs."""
        return self.scratch / "tree"

    def key(self, layer: Layer) -> str:
        """Under which a layer is kept."""
        return files.canonical_digest([layer.key, dict(self.lent)])


def build(site: Site) -> None:
    """Make the disk in as few runs as the cache allows; what is made on the way is kept."""
    layers = tuple(layer for layer in site.plan.layers if layer.elements)
    _have_tree(site, layers[:-1])
    _run(site, Run(layers=layers, begins_with_tree=True))


def _have_tree(site: Site, layers: tuple[Layer, ...]) -> None:
    """Have the tree after these layers, out of the cache or made."""
    if not layers or _take(site, layers[-1]):
        return
    key = site.key(layers[-1])
    with store.making(site.cache, KIND, key):
        if _take(site, layers[-1]):  # another build has made it meanwhile
            return
        _have_tree(site, layers[:-1])
        last = len(layers) == sum(bool(layer.elements) for layer in site.plan.layers) - 1
        begins = len(layers) > 1
        _run(site, Run(layers=layers, begins_with_tree=begins, ends_with_tree=True, prepares_initramfs=last))
        _keep(site, layers[-1])


def _run(site: Site, run: Run) -> None:
    folder = site.scratch / "elements" / run.layers[-1].name
    write(site.plan, run, folder)
    site.execute(replace(run, elements=folder))


def _take(site: Site, layer: Layer) -> bool:
    """Unpack a layer, if it is kept and no archive has changed since."""
    key = site.key(layer)
    known = store.facts(site.cache, KIND, key)
    if known is None:
        return False
    if why := repositories.changed(known):
        console.note(f"{site.plan.variant}: the {layer.name} layer is made anew: {why}")
        store.drop(site.cache, KIND, key)
        return False
    with store.reading(site.cache, KIND, key) as packed:
        if packed is None:
            return False
        with site.timed(layer.name, "take from cache"):
            _unpack(site, packed)
    site.taken[f"{layer.name} layer"] = key
    _see(site, known)
    return True


def _see(site: Site, known: Mapping[str, str]) -> None:
    """Add what the archives said for a layer; of what an earlier one used, its word stands."""
    site.seen.update({**known, **site.seen})


def _unpack(site: Site, packed: Path) -> None:
    prefix = process.as_root()
    extract = [*_TAR, "--extract", "--use-compress-program=zstd", f"--file={packed}", f"--directory={site.tree}"]
    site.tree.mkdir()
    try:
        process.run([*prefix, *extract], deadline=_SECONDS)
    except ProgramError as error:
        raise BuildError(
            f"{site.plan.variant}: a layer from the cache cannot be unpacked: {error}",
            remedy="Free some space, or put the builds elsewhere with --builds DIR.",
        ) from error


def _keep(site: Site, layer: Layer) -> None:
    """Pack the tree. What cannot be kept is said, and no reason to end the build."""
    known = repositories.read((site.scratch / "tree.archives").read_text(encoding="utf-8"))
    _see(site, known)
    if not known:
        console.note(
            f"{site.plan.variant}: the {layer.name} layer is not kept: its package archives cannot be asked later"
        )
        return
    packed = site.scratch / "layer.tar.zst"
    about = f"{layer.name} layer, made for {site.plan.variant}"
    try:
        with site.timed(layer.name, "put into cache"):
            _pack(site.tree, packed)
            store.put(site.cache, KIND, site.key(layer), packed, about=about, facts=site.seen, now=site.now)
    except (PipelineError, OSError) as error:
        if isinstance(error, PipelineError) and error.exit_code >= 128:
            raise
        console.warn(f"{site.plan.variant}: the {layer.name} layer is not kept: {error}")
    finally:
        packed.unlink(missing_ok=True)


def _pack(tree: Path, packed: Path) -> None:
    prefix = process.as_root()
    create = [*_TAR, "--create", "--use-compress-program=zstd -1 -T0", f"--file={packed}", f"--directory={tree}", "."]
    process.run([*prefix, *create], deadline=_SECONDS)
    if prefix:
        process.run([*prefix, "chown", f"{os.getuid()}:{os.getgid()}", str(packed)], deadline=60)


def write(plan: Recipe, run: Run, folder: Path) -> None:
    """Make `folder` with the elements of the run's layers, each as far as it takes part."""
    names = [layer.name for layer in run.layers]
    done = set(names[:-1]) if run.begins_with_tree else set()
    for element, source in plan.closure.items():
        layer = plan.layer_of[element]
        if layer not in names:
            continue
        left_out = [*FOR_OTHERS.get(element, _ONCE)] if layer in done else []
        left_out += _AT_THE_END if run.ends_with_tree else ()
        _copy(source, folder / element, left_out)
    for element in BETWEEN_RUNS:
        _copy(paths.ELEMENTS / element, folder / element, [])


def _copy(source: Path, target: Path, left_out: list[str]) -> None:
    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name == "__pycache__" or (Path(folder) == source and name in left_out)]

    shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
