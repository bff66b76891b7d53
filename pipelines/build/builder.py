"""Build of one image by diskimage-builder: from a variant to a complete build, or to a failed one with its log.

However it ends, it leaves no mount, no loop device and no temporary tree.
"""

import json
import platform
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.artifacts import manifest
from pipelines.artifacts import store as artifacts_store
from pipelines.build import dib, elements, layers, module_cache, secrets, workspace
from pipelines.build import recipe as build_recipe
from pipelines.build.dib import Progress
from pipelines.build.layers import LayeredBuild, Tree
from pipelines.build.recipe import Command, Recipe, Run
from pipelines.cache import store
from pipelines.catalog.variant import Variant
from pipelines.diskimage import qemu_img
from pipelines.inputs import repositories, resolver
from pipelines.inputs.resolver import Inputs
from pipelines.preflight import apt_mirrors, preflight
from pipelines.util import files as util_files
from pipelines.util import process, times
from pipelines.util.errors import BuildError


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One build: its variant, recipe, inputs and secrets (by name), its folder, and the cache."""

    variant: Variant
    recipe: Recipe
    inputs: Inputs
    secrets: Mapping[str, bytes] = field(repr=False)  # no traceback shows them
    folder: Path
    cache: Path
    now: datetime

    @property
    def scratch(self) -> Path:
        return self.folder.resolve() / "scratch"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Result:
    """A finished job: timings, wall seconds, the image file, and how the tree before the last layer came about."""

    progress: Progress
    seconds: float
    artifact: manifest.Artifact
    tree: Tree


def build(
    variant: Variant, root: Path, now: datetime, *, verbose: bool = False, cached: bool = True
) -> artifacts_store.Build:
    """Build a variant below `root`; returns the complete build. `cached`: whether it uses and fills the cache.

    Raises HostError before anything starts when the host is not fit, or another process builds this variant;
    BuildError with the failing element, the last lines and the log when diskimage-builder fails. An interrupt stops
    diskimage-builder, cleans up, and is raised again.
    """
    from pipelines.artifacts import sbom  # noqa: PLC0415  # `inv show` names the command of a build, and starts sooner

    build_recipe.resolve(variant)  # errors of the variant itself come before anything is fetched
    preflight.require(variant, root)
    secret_contents = secrets.read(variant)
    cache = root / ".cache"
    with ExitStack() as held:
        inputs = resolver.collect(variant, cache / "downloads", held)
        recipe = build_recipe.resolve(variant, inputs.digests)
        build_id = artifacts_store.build_id(now, recipe.fingerprint)
        folder = held.enter_context(workspace.opened(root, variant.name, build_id))
        job = _Job(
            variant=variant,
            recipe=recipe,
            inputs=inputs,
            secrets=secret_contents,
            folder=folder,
            cache=cache,
            now=now,
        )
        result = _make_image(job, verbose=verbose, cached=cached)
        about = _manifest(job, result)
        sbom.write(folder, about)
        util_files.write_json(folder / "manifest.json", about)
    return artifacts_store.newest_complete(root, variant.name, folder.name)


def command_for(
    recipe: Recipe, folder: Path, files: Mapping[str, Path], run: Run | None = None, **more: str
) -> Command:
    """A disk-image-create run of a build in `folder`, as this host runs it, with its input files.

    Without `run`, all layers in one run. `more` are variables of this build alone.
    """
    cache = folder.resolve().parent.parent / ".cache"
    mirrors = apt_mirrors.usable(recipe.distribution)
    run = run or build_recipe.whole(recipe)
    command = build_recipe.command(recipe, run, folder.resolve(), cache, mirrors=mirrors, files=files)
    environment = process.environment(**process.proxies(), **command.environment, **more)
    return Command(argv=(*process.as_root(), *command.argv), environment=environment)


def _make_image(job: _Job, *, verbose: bool, cached: bool) -> _Result:
    """Run diskimage-builder, convert its disk, and compute the image's digests."""
    started = time.monotonic()
    (job.cache / "locks").mkdir(parents=True, exist_ok=True)
    with dib.session(job.recipe, job.folder / "build.log", verbose=verbose) as session:
        tree = _run_in_layers(job, session) if cached else _run_at_once(job, session)
        with session.timed("variant", "convert"):
            raw = job.scratch / "image.raw"
            qemu_img.convert(raw, job.folder / "image.qcow2", compression=job.recipe.compression)
        with session.timed("variant", "hash"):
            artifact = workspace.artifact(job.folder / "image.qcow2")
    seconds = time.monotonic() - started
    return _Result(progress=session.progress, seconds=seconds, artifact=artifact, tree=tree)


def _run_at_once(job: _Job, session: dib.Session) -> Tree:
    """Make the disk in one run, without the cache."""
    command = command_for(job.recipe, job.folder, job.inputs.files)
    session.execute(command, secrets.sent(job.secrets))
    return Tree()


def _run_in_layers(job: _Job, session: dib.Session) -> Tree:
    """Make the disk in as few runs as the cache allows, and put into the cache what was made."""
    new_modules = job.scratch / "modules"
    new_modules.mkdir()
    cached_modules = job.cache.resolve() / module_cache.KIND
    module_folders = {"DIB_KERNEL_MODULES_KEPT": str(cached_modules), "DIB_KERNEL_MODULES_NEW": str(new_modules)}

    def execute(run: Run) -> None:
        command = command_for(job.recipe, job.folder, job.inputs.files, run, **module_folders)
        session.execute(command, secrets.sent(job.secrets), layer=run.layers[-1].name)

    layered = LayeredBuild(
        recipe=job.recipe,
        scratch=job.scratch,
        cache=job.cache,
        now=job.now,
        host_environment={**apt_mirrors.usable(job.recipe.distribution), **process.proxies()},
        execute=execute,
        timed=session.timed,
    )
    tree = layers.build(layered)
    modules = module_cache.take(new_modules, job.cache, job.now)
    store.shrink(job.cache, store.limit(job.cache))
    return Tree(cached={**tree.cached, **({"kernel modules": modules} if modules else {})}, archives=tree.archives)


def _manifest(job: _Job, result: _Result) -> manifest.Manifest:
    """The build's manifest, from what the elements left in scratch/image.d beside the disk."""
    variant, recipe, inputs = job.variant, job.recipe, job.inputs
    left = job.scratch / "image.d"
    identity = _read_json(left / "gpu-image.json")
    packages = _packages(left / "dib-manifests")
    return manifest.Manifest(
        variant=variant.name,
        build_id=job.folder.name,
        fingerprint=recipe.fingerprint,
        created_at=times.utc(job.now),
        base=_base(variant, inputs),
        kernel=identity["kernel"],
        driver=_driver(job, identity),
        cuda={"toolkit": identity["cuda"]} if identity["cuda"] else {},
        artifacts=(result.artifact,),
        packages={item["package"]: item["version"] for item in packages},
        architectures={item["package"]: item["arch"] for item in packages if "arch" in item},
        tools=_tools(),
        stages=result.progress.stages,
        layers=result.progress.layers(),
        seconds=round(result.seconds, 3),
        elements={name: elements.element_digest(path) for name, path in recipe.closure.items()},
        parts=recipe.parts,
        inputs=inputs.digests,
        archives=_archives(left / "dib-manifests" / "archives", result.tree),
        cached=result.tree.cached,
        scratch=_read_json(left / "scratch.json"),
    )


def _archives(path: Path, before: Tree) -> dict[str, str]:
    """The digest of each package index when it was first used: its packages are of then, whatever later layers read."""
    return {**repositories.read(path.read_text(encoding="utf-8")), **before.archives}


def _base(variant: Variant, inputs: Inputs) -> dict[str, str]:
    """The base as declared, and for a cloud image its digest and the key that signed it."""
    assert variant.base is not None  # resolve() refused that
    declared = {name: str(value) for name, value in asdict(variant.base).items() if value is not None}
    found = {"sha256": inputs.digests.get(resolver.BASE_IMAGE), "signed_by": inputs.signers.get(resolver.BASE_IMAGE)}
    return declared | {name: value for name, value in found.items() if value}


def _driver(job: _Job, identity: Mapping[str, str]) -> dict[str, str]:
    """The driver, and the certificate (PEM) that its modules are signed with where that is the site's own."""
    driver = job.variant.driver
    if driver is None or not identity["driver"]:
        return {}
    about = {"version": identity["driver"], "modules": identity["modules"], "source": driver.source}
    certificate = secrets.certificate(job.secrets)
    return about | ({"certificate": certificate} if certificate else {})


def _packages(folder: Path) -> list[dict[str, str]]:
    """The installed packages, each with its name, version and architecture."""
    found: list[dict[str, str]] = []
    for path in (*folder.glob("dib-manifest-dpkg-*"), *folder.glob("dib-manifest-rpm-*")):
        # dpkg also lists a removed package while some of its configuration is left ("rc").
        found += [each for each in _read_json(path)["packages"] if each.get("status", "ii")[1] == "i"]
    if not found:
        raise BuildError(f"diskimage-builder left no package list in {folder}", remedy="Report this with build.log.")
    return found


def _tools() -> dict[str, str]:
    return {
        "diskimage-builder": elements.dib_version(),
        "qemu-img": qemu_img.version(),
        "host kernel": platform.release(),
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"the build left no readable {path.name}: {error}", remedy="Report this.") from error
    return raw
