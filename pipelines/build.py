"""How is one built?

Runs disk-image-create for a recipe, follows what it does, and leaves a complete build or a failed one with its log;
never a mount, a loop device or a temporary tree.
"""

import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines import disk, host, manifest, mirrors, process, recipe, room
from pipelines.console import ticker
from pipelines.errors import BuildError, HostError, ProgramError
from pipelines.progress import Progress
from pipelines.recipe import Command, Recipe
from pipelines.variant import Variant

DEADLINE_SECONDS = 3 * 3600.0
KEPT_FAILURES = 3
SHOWN_LINES = 12
_MIRROR_SIGNS = ("Failed to fetch", "Could not connect", "Temporary failure resolving", "404  Not Found")


def build(variant: Variant, root: Path, now: datetime, *, verbose: bool = False) -> manifest.Build:
    """Build a variant below `root`; returns the complete build.

    Raises HostError before anything starts when the host is not fit, or another process builds this variant;
    BuildError with the failing element, the last lines and the log when diskimage-builder fails. An interrupt stops
    it, cleans up, and goes on as it came.
    """
    plan = recipe.resolve(variant)
    host.require(variant, root)
    room.make(root)
    with manifest.lock(root, variant.name):
        _clean_leftovers(root, variant.name)
        folder = _new_folder(root, variant.name, manifest.build_id(now, plan.fingerprint))
        with _recorded(folder):
            timing = _run(plan, folder, root, verbose=verbose)
            made = _manifest(variant, plan, folder, now, timing)
            manifest.write_json(folder / "manifest.json", made)
    return manifest.newest_complete(root, variant.name, folder.name)


def command_for(plan: Recipe, folder: Path) -> Command:
    """The disk-image-create run of a build in `folder`, as this host runs it."""
    cache = folder.resolve().parent.parent / ".cache"
    command = recipe.command(plan, folder.resolve(), cache, mirrors.lent(_distribution(plan)))
    environment = process.environment(**_proxies(), **command.environment)
    return Command(argv=(*host.root_prefix(), *command.argv), environment=environment)


def _clean_leftovers(root: Path, variant: str) -> None:
    """Clean what crashed builds left; keep the logs of the last failures.

    Call it with the variant's lock held: then nothing that says running can be running.
    """
    for build in manifest.builds(root, variant):
        # Holding the lock makes a crashed build look like a running one.
        if build.state in {manifest.RUNNING, "leftover"}:
            _keep_only_logs(build.folder)  # first: on a full disk the state could not be written before
            manifest.set_state(build.folder, manifest.FAILED, "it was cut off before it ended")
    failed = [build for build in manifest.builds(root, variant) if build.state == manifest.FAILED]
    for build in failed[:-KEPT_FAILURES]:
        _remove(build.folder)


def _new_folder(root: Path, variant: str, build_id: str) -> Path:
    folder = root / variant / build_id
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise HostError(f"{folder} is there already", remedy="Wait a second and run the command again.") from None
    manifest.set_state(folder, manifest.RUNNING, f"process {os.getpid()}")
    (folder / "scratch").mkdir()
    return folder


@contextmanager
def _recorded(folder: Path) -> Iterator[None]:
    """The folder's state says complete or failed afterwards, and its scratch space is gone."""
    try:
        yield
    except BaseException as error:
        _keep_only_logs(folder)  # first: on a full disk the state could not be written before
        manifest.set_state(folder, manifest.FAILED, getattr(error, "what", None) or type(error).__name__)
        raise
    _remove(folder / "scratch")
    _remove(folder / "image.d")
    manifest.set_state(folder, manifest.COMPLETE)


def _run(plan: Recipe, folder: Path, root: Path, *, verbose: bool) -> tuple[Progress, float]:
    """What diskimage-builder did, and in how many seconds."""
    (root / ".cache" / "locks").mkdir(parents=True, exist_ok=True)
    command = command_for(plan, folder)
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


def _distribution(plan: Recipe) -> str:
    return "ubuntu" if any(name.startswith("ubuntu") for name in plan.closure) else "debian"


def _proxies() -> dict[str, str]:
    names = ("http_proxy", "https_proxy", "no_proxy")
    return {name: os.environ[name] for name in names if name in os.environ}


def _manifest(
    variant: Variant, plan: Recipe, folder: Path, now: datetime, timing: tuple[Progress, float]
) -> manifest.Manifest:
    identity = _read_json(folder / "image.d" / "gpu-image.json")
    progress, seconds = timing
    return manifest.Manifest(
        variant=variant.name,
        build_id=folder.name,
        fingerprint=plan.fingerprint,
        created_at=f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        base=_base(variant, plan, folder.parent.parent / ".cache"),
        kernel=identity["kernel"],
        driver={"version": identity["driver"], "modules": identity["modules"]} if identity["driver"] else {},
        cuda={"toolkit": identity["cuda"]} if identity["cuda"] else {},
        artifacts=(_artifact(folder / "image.qcow2"),),
        packages=_packages(folder / "image.d" / "dib-manifests"),
        tools=_tools(),
        stages=progress.stages,
        layers=progress.layers(),
        seconds=round(seconds, 3),
        elements={name: recipe.element_digest(path) for name, path in plan.closure.items()},
        parts=plan.parts,
    )


def _base(variant: Variant, plan: Recipe, cache: Path) -> dict[str, str]:
    """The base as declared, and of a downloaded image the digest that DIB compared it with."""
    assert variant.base is not None  # resolve() refused that
    declared = {name: str(value) for name, value in asdict(variant.base).items() if value is not None}
    for sums in cache.glob(f"SHA256SUMS.*.{plan.environment['DIB_RELEASE']}.{plan.architecture}"):
        for line in sums.read_text(encoding="utf-8").splitlines():
            digest, _, name = line.partition(" ")
            if name.lstrip(" *") == plan.environment.get("BASE_IMAGE_FILE"):
                declared["sha256"] = digest
    return declared


def _artifact(path: Path) -> manifest.Artifact:
    if prefix := host.root_prefix():
        process.run([*prefix, "chown", f"{os.getuid()}:{os.getgid()}", str(path)], deadline=60)
    info = disk.info(path)
    sha256, sha512 = disk.digests(path)
    return manifest.Artifact(
        path=path.name,
        format=info.format,
        size=path.stat().st_size,
        virtual_size=info.virtual_size,
        sha256=sha256,
        sha512=sha512,
    )


def _packages(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in folder.glob("dib-manifest-dpkg-*"):
        found |= {item["package"]: item["version"] for item in _read_json(path)["packages"]}
    if not found:
        raise BuildError(f"diskimage-builder left no package list in {folder}", remedy="Report this with build.log.")
    return found


def _tools() -> dict[str, str]:
    qemu = process.run(["qemu-img", "--version"], deadline=10).stdout.splitlines()[0]
    return {"diskimage-builder": recipe.dib_version(), "qemu-img": qemu, "host kernel": platform.release()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"the build left no readable {path.name}: {error}", remedy="Report this.") from error
    return raw


def _keep_only_logs(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name not in {"build.log", "state.json", "manifest.json", "verify.json"}:
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a file or a tree, root's own included; the build's mounts ended with its namespace."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except PermissionError:
        process.run([*host.root_prefix(), "rm", "-rf", "--one-file-system", str(path)], deadline=300)
    except FileNotFoundError:
        return
