"""How is one built?

Runs disk-image-create for a recipe, follows what it does, and leaves a complete build or a failed one with its log;
never a mount, a loop device or a temporary tree.
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
from pipelines.build import dib, elements, module_cache, recipe, secrets, workspace
from pipelines.build import layers as build_layers
from pipelines.build.dib import Progress
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
    """One build: of what, how, with which files and secrets, where, and beside which cache."""

    variant: Variant
    plan: Recipe
    given: Inputs
    bound: Mapping[str, bytes] = field(repr=False)  # no traceback shows them
    folder: Path
    cache: Path
    now: datetime

    @property
    def scratch(self) -> Path:
        return self.folder.resolve() / "scratch"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layers:
    """What the layers before the last say: what came out of the cache, and what the package archives had for them."""

    cached: Mapping[str, str] = field(default_factory=dict)
    archives: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Made:
    """What became of a job: the timings, the artifact, and what its layers say."""

    progress: Progress
    seconds: float
    artifact: manifest.Artifact
    layers: _Layers


def build(
    variant: Variant, root: Path, now: datetime, *, verbose: bool = False, cached: bool = True
) -> artifacts_store.Build:
    """Build a variant below `root`; returns the complete build. Without `cached` nothing is kept or taken.

    Raises HostError before anything starts when the host is not fit, or another process builds this variant;
    BuildError with the failing element, the last lines and the log when diskimage-builder fails. An interrupt stops
    it, cleans up, and goes on as it came.
    """
    from pipelines.artifacts import sbom  # noqa: PLC0415  # `inv show` names the command that a build runs, and starts sooner

    recipe.resolve(variant)  # what is wrong with the variant itself is said before anything is fetched
    preflight.require(variant, root)
    bound = secrets.read(variant)
    kept = root / ".cache"
    with ExitStack() as held:
        given = resolver.collect(variant, kept / "downloads", held)
        plan = recipe.resolve(variant, given.digests)
        folder = held.enter_context(
            workspace.opened(root, variant.name, artifacts_store.build_id(now, plan.fingerprint))
        )
        job = _Job(variant=variant, plan=plan, given=given, bound=bound, folder=folder, cache=kept, now=now)
        said = _manifest(job, _make(job, verbose=verbose, cached=cached))
        sbom.write(folder, said)
        util_files.write_json(folder / "manifest.json", said)
    return artifacts_store.newest_complete(root, variant.name, folder.name)


def command_for(plan: Recipe, folder: Path, files: Mapping[str, Path], run: Run | None = None, **more: str) -> Command:
    """A disk-image-create run of a build in `folder`, as this host runs it, with its files from outside.

    The run is all of the recipe at once unless it is given; `more` are variables that only this build has.
    """
    cache_folder = folder.resolve().parent.parent / ".cache"
    lent = apt_mirrors.lent(plan.distribution)
    command = recipe.command(plan, run or recipe.whole(plan), folder.resolve(), cache_folder, mirrors=lent, files=files)
    environment = process.environment(**process.proxies(), **command.environment, **more)
    return Command(argv=(*process.as_root(), *command.argv), environment=environment)


def _make(job: _Job, *, verbose: bool, cached: bool) -> _Made:
    started = time.monotonic()
    (job.cache / "locks").mkdir(parents=True, exist_ok=True)
    with dib.session(job.plan, job.folder / "build.log", verbose=verbose) as session:
        made = _in_layers(job, session) if cached else _at_once(job, session)
        with session.timed("variant", "convert"):
            raw = job.scratch / "image.raw"
            qemu_img.convert(raw, job.folder / "image.qcow2", compression=job.plan.compression)
        with session.timed("variant", "hash"):
            artifact = workspace.artifact(job.folder / "image.qcow2")
    seconds = time.monotonic() - started
    return _Made(progress=session.progress, seconds=seconds, artifact=artifact, layers=made)


def _at_once(job: _Job, session: dib.Session) -> _Layers:
    command = command_for(job.plan, job.folder, job.given.files)
    session.execute(command, secrets.sent(job.bound))
    return _Layers()


def _in_layers(job: _Job, session: dib.Session) -> _Layers:
    """In as many runs as the cache leaves to be done."""
    fresh = job.scratch / "modules"
    fresh.mkdir()
    kept = job.cache.resolve() / module_cache.KIND
    lent = {"DIB_KERNEL_MODULES_KEPT": str(kept), "DIB_KERNEL_MODULES_NEW": str(fresh)}

    def execute(run: Run) -> None:
        command = command_for(job.plan, job.folder, job.given.files, run, **lent)
        session.execute(command, secrets.sent(job.bound), layer=run.layers[-1].name)

    site = build_layers.Site(
        plan=job.plan,
        scratch=job.scratch,
        cache=job.cache,
        now=job.now,
        lent={**apt_mirrors.lent(job.plan.distribution), **process.proxies()},
        execute=execute,
        timed=session.timed,
    )
    build_layers.build(site)
    modules = module_cache.take(fresh, job.cache, job.now)
    store.shrink(job.cache, store.limit(job.cache))
    taken = site.taken | ({"kernel modules": modules} if modules else {})
    return _Layers(cached=taken, archives=site.seen)


def _manifest(job: _Job, made: _Made) -> manifest.Manifest:
    variant, plan, given = job.variant, job.plan, job.given
    said = job.scratch / "image.d"
    identity = _read_json(said / "gpu-image.json")
    packages = _packages(said / "dib-manifests")
    return manifest.Manifest(
        variant=variant.name,
        build_id=job.folder.name,
        fingerprint=plan.fingerprint,
        created_at=times.utc(job.now),
        base=_base(variant, given),
        kernel=identity["kernel"],
        driver=_driver(job, identity),
        cuda={"toolkit": identity["cuda"]} if identity["cuda"] else {},
        artifacts=(made.artifact,),
        packages={item["package"]: item["version"] for item in packages},
        architectures={item["package"]: item["arch"] for item in packages if "arch" in item},
        tools=_tools(),
        stages=made.progress.stages,
        layers=made.progress.layers(),
        seconds=round(made.seconds, 3),
        elements={name: elements.element_digest(path) for name, path in plan.closure.items()},
        parts=plan.parts,
        inputs=given.digests,
        archives=_archives(said / "dib-manifests" / "archives", made.layers),
        cached=made.layers.cached,
        scratch=_read_json(said / "scratch.json"),
    )


def _archives(path: Path, before: _Layers) -> dict[str, str]:
    """The state of each index when it was first used: its packages are of that time, whatever a later layer saw."""
    return {**repositories.read(path.read_text(encoding="utf-8")), **before.archives}


def _base(variant: Variant, given: Inputs) -> dict[str, str]:
    """The base as declared, and of a cloud image its digest and the key that signed for it."""
    assert variant.base is not None  # resolve() refused that
    declared = {name: str(value) for name, value in asdict(variant.base).items() if value is not None}
    known = {"sha256": given.digests.get(resolver.BASE_IMAGE), "signed_by": given.signers.get(resolver.BASE_IMAGE)}
    return declared | {name: value for name, value in known.items() if value}


def _driver(job: _Job, identity: Mapping[str, str]) -> dict[str, str]:
    """The driver, and the certificate (PEM) that its modules are signed with where that is the site's own."""
    driver = job.variant.driver
    if driver is None or not identity["driver"]:
        return {}
    made = {"version": identity["driver"], "modules": identity["modules"], "source": driver.source}
    certificate = secrets.certificate(job.bound)
    return made | ({"certificate": certificate} if certificate else {})


def _packages(folder: Path) -> list[dict[str, str]]:
    """The packages that are installed, with their name, version and architecture."""
    found: list[dict[str, str]] = []
    for path in (*folder.glob("dib-manifest-dpkg-*"), *folder.glob("dib-manifest-rpm-*")):
        # dpkg names a package that is removed, too, while some of its configuration is left ("rc").
        found += [each for each in _read_json(path)["packages"] if each.get("status", "ii")[1] == "i"]
    if not found:
        raise BuildError(f"diskimage-builder left no package list in {folder}", remedy="Report this with build.log.")
    return found


def _tools() -> dict[str, str]:
    found = {"diskimage-builder": elements.dib_version(), "qemu-img": qemu_img.version()}
    return found | {"host kernel": platform.release()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"the build left no readable {path.name}: {error}", remedy="Report this.") from error
    return raw
