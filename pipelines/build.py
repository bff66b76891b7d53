"""How is one built?

Runs disk-image-create for a recipe, follows what it does, and leaves a complete build or a failed one with its log;
never a mount, a loop device or a temporary tree.
"""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines import build_folder, closure, host, inputs, manifest, mirrors, process, recipe, secrets
from pipelines.console import ticker
from pipelines.errors import BuildError, ProgramError
from pipelines.inputs import Inputs
from pipelines.progress import Progress
from pipelines.recipe import Command, Recipe
from pipelines.variant import Variant

DEADLINE_SECONDS = 3 * 3600.0
SHOWN_LINES = 12
_MIRROR_SIGNS = ("Failed to fetch", "Could not connect", "Temporary failure resolving", "404  Not Found")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One build: of what, how, with which files and secrets, and where."""

    variant: Variant
    plan: Recipe
    given: Inputs
    bound: Mapping[str, bytes] = field(repr=False)  # no traceback shows them
    folder: Path


def build(variant: Variant, root: Path, now: datetime, *, verbose: bool = False) -> manifest.Build:
    """Build a variant below `root`; returns the complete build.

    Raises HostError before anything starts when the host is not fit, or another process builds this variant;
    BuildError with the failing element, the last lines and the log when diskimage-builder fails. An interrupt stops
    it, cleans up, and goes on as it came.
    """
    recipe.resolve(variant)  # what is wrong with the variant itself is said before anything is fetched
    host.require(variant, root)
    bound = secrets.read(variant)
    given = inputs.collect(variant, root / ".cache" / "downloads")
    plan = recipe.resolve(variant, given.digests)
    with build_folder.opened(root, variant.name, manifest.build_id(now, plan.fingerprint)) as folder:
        job = _Job(variant=variant, plan=plan, given=given, bound=bound, folder=folder)
        timing = _run(job, root, verbose=verbose)
        made = _manifest(job, now, timing)
        manifest.write_json(folder / "manifest.json", made)
    return manifest.newest_complete(root, variant.name, folder.name)


def command_for(plan: Recipe, folder: Path, files: Mapping[str, Path]) -> Command:
    """The disk-image-create run of a build in `folder`, as this host runs it, with its files from outside."""
    cache = folder.resolve().parent.parent / ".cache"
    command = recipe.command(plan, folder.resolve(), cache, mirrors.lent(plan.distribution), files)
    environment = process.environment(**_proxies(), **command.environment)
    return Command(argv=(*host.root_prefix(), *command.argv), environment=environment)


def _run(job: _Job, root: Path, *, verbose: bool) -> tuple[Progress, float]:
    """What diskimage-builder did, and in how many seconds."""
    plan, folder = job.plan, job.folder
    (root / ".cache" / "locks").mkdir(parents=True, exist_ok=True)
    command = command_for(plan, folder, job.given.files)
    log = folder / "build.log"
    progress = Progress(owners=_owners(plan))
    with ticker(plan.variant, verbose=verbose) as shown:

        def on_line(text: str) -> None:
            if progress.line(text, time.monotonic()):
                shown.stage(_stage_name(progress))
            shown.line(text)

        try:
            result = process.stream(
                command.argv,
                deadline=DEADLINE_SECONDS,
                log=log,
                on_line=on_line,
                on_idle=shown.tick,
                env=command.environment,
                stdin=secrets.sent(job.bound),
            )
        except ProgramError as error:
            raise _failure(plan, progress, log, str(error)) from error
    if result.returncode != 0:
        raise _failure(plan, progress, log, f"exit code {result.returncode}")
    progress.finish(time.monotonic())
    return progress, result.seconds


def _stage_name(progress: Progress) -> str:
    return f"{progress.current} ({progress.element})" if progress.element else progress.current


def _failure(plan: Recipe, progress: Progress, log: Path, how: str) -> BuildError:
    where = f"element {progress.element}, {progress.current}" if progress.element else progress.current
    layer = plan.layer_of.get(progress.element, "")
    last = "\n".join(f"  | {line}" for line in progress.recent[-SHOWN_LINES:])
    in_layer = f" ({layer} layer)" if layer else ""
    return BuildError(
        f"{plan.variant}: diskimage-builder failed in {where}{in_layer}: {how}\n{last}",
        remedy=f"The whole log: {log}{_hint(progress.recent)}",
    )


def _hint(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    if "No space left on device" in text:
        return "\nThe disk is full: free some space, or put the builds elsewhere with --builds DIR."
    if any(sign in text for sign in _MIRROR_SIGNS):
        return "\nThe package mirror failed: `./inv doctor` shows which one is used; try again when it answers."
    if "curl: (" in text:
        return "\nA server did not answer: `./inv doctor --only NAME` asks each one that the build needs."
    return ""


def _owners(plan: Recipe) -> dict[str, tuple[str, str]]:
    """Which layer and element a phase's script comes from."""
    return {
        f"{script.parent.name}/{script.name}": (plan.layer_of[element], element)
        for element, folder in plan.closure.items()
        for script in folder.glob("*.d/*")
    }


def _proxies() -> dict[str, str]:
    names = ("http_proxy", "https_proxy", "no_proxy")
    return {name: os.environ[name] for name in names if name in os.environ}


def _manifest(job: _Job, now: datetime, timing: tuple[Progress, float]) -> manifest.Manifest:
    variant, plan, given, folder = job.variant, job.plan, job.given, job.folder
    identity = _read_json(folder / "image.d" / "gpu-image.json")
    progress, seconds = timing
    return manifest.Manifest(
        variant=variant.name,
        build_id=folder.name,
        fingerprint=plan.fingerprint,
        created_at=f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        base=_base(variant, given),
        kernel=identity["kernel"],
        driver=_driver(job, identity),
        cuda={"toolkit": identity["cuda"]} if identity["cuda"] else {},
        artifacts=(build_folder.artifact(folder / "image.qcow2"),),
        packages=_packages(folder / "image.d" / "dib-manifests"),
        tools=_tools(),
        stages=progress.stages,
        layers=progress.layers(),
        seconds=round(seconds, 3),
        elements={name: closure.element_digest(path) for name, path in plan.closure.items()},
        parts=plan.parts,
        inputs=given.digests,
    )


def _base(variant: Variant, given: Inputs) -> dict[str, str]:
    """The base as declared, and of a cloud image its digest and the key that signed for it."""
    assert variant.base is not None  # resolve() refused that
    declared = {name: str(value) for name, value in asdict(variant.base).items() if value is not None}
    known = {"sha256": given.digests.get(inputs.BASE_IMAGE), "signed_by": given.signers.get(inputs.BASE_IMAGE)}
    return declared | {name: value for name, value in known.items() if value}


def _driver(job: _Job, identity: Mapping[str, str]) -> dict[str, str]:
    """The driver, and the certificate (PEM) that its modules are signed with where that is the site's own."""
    driver = job.variant.driver
    if driver is None or not identity["driver"]:
        return {}
    made = {"version": identity["driver"], "modules": identity["modules"], "source": driver.source}
    certificate = secrets.certificate(job.bound)
    return made | ({"certificate": certificate} if certificate else {})


def _packages(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in (*folder.glob("dib-manifest-dpkg-*"), *folder.glob("dib-manifest-rpm-*")):
        found |= {item["package"]: item["version"] for item in _read_json(path)["packages"]}
    if not found:
        raise BuildError(f"diskimage-builder left no package list in {folder}", remedy="Report this with build.log.")
    return found


def _tools() -> dict[str, str]:
    qemu = process.run(["qemu-img", "--version"], deadline=10).stdout.splitlines()[0]
    return {"diskimage-builder": closure.dib_version(), "qemu-img": qemu, "host kernel": platform.release()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"the build left no readable {path.name}: {error}", remedy="Report this.") from error
    return raw
