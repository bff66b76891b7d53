"""Builds on disk: builds/<variant>/<build_id>/, their state and their lock."""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pipelines.artifacts import manifest as artifacts_manifest
from pipelines.artifacts.manifest import Manifest, Verification
from pipelines.catalog.variant import Variant
from pipelines.util import files, locks
from pipelines.util.errors import UsageError, VerifyError

_TIME = "%Y%m%dT%H%M%SZ"
RUNNING, FAILED, COMPLETE = "running", "failed", "complete"


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """A build's folder and the state that its files give it.

    `state` is running, failed, complete, or "leftover" for a folder that says running while nobody holds its lock.
    """

    folder: Path
    variant: str
    build_id: str
    state: Literal["running", "failed", "complete", "leftover"]
    detail: str = ""

    def manifest(self) -> Manifest:
        """The manifest; VerifyError when it is missing or corrupt."""
        return artifacts_manifest.read_manifest(self.folder / "manifest.json")

    def verification(self) -> Verification | None:
        """The newest verification, None when there is none; VerifyError when it is corrupt."""
        path = self.folder / "verify.json"
        return artifacts_manifest.read_verification(path) if path.exists() else None

    def image(self) -> Path:
        """The canonical artifact's path."""
        return self.folder / self.manifest().artifact.path


def build_id(now: datetime, fingerprint: str) -> str:
    """`YYYYMMDDTHHMMSSZ-<first 8 of the fingerprint>`; sorts by time."""
    return f"{now.astimezone(UTC):{_TIME}}-{fingerprint[:8]}"


def built_at(build_id: str) -> datetime | None:
    """When a build was started, by its ID; None when that is not one of ours."""
    try:
        return datetime.strptime(build_id.partition("-")[0], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def set_state(folder: Path, state: str, detail: str = "") -> None:
    """Write state.json."""
    files.write_json(folder / "state.json", {"state": state, "detail": detail})


def builds(root: Path, variant: str) -> list[Build]:
    """All builds of a variant below the builds' root, oldest first."""
    folder = root / variant
    if not folder.is_dir():
        return []
    running = locks.holder(_lock_file(root, variant)) is not None
    found = (_build(path, variant, running) for path in sorted(folder.iterdir()) if path.is_dir())
    return [build for build in found if build is not None]


def newest_complete(root: Path, variant: str, wanted: str | None = None) -> Build:
    """The newest complete build, or the one that is `wanted` by its build_id; UsageError when there is none."""
    complete = [build for build in builds(root, variant) if build.state == COMPLETE]
    if wanted is not None:
        complete = [build for build in complete if build.build_id == wanted]
    if not complete:
        which = f"build {wanted} of {variant}" if wanted else f"build of {variant}"
        raise UsageError(f"there is no complete {which} in {root}", remedy=f"Run `./inv build {variant}` first.")
    return complete[-1]


def lock(root: Path, variant: str) -> contextlib.AbstractContextManager[None]:
    """Hold the variant's build lock; HostError that names the holder when another process has it.

    The short wait is for those who only look: asking who holds a lock takes it for a moment.
    """
    return locks.hold(_lock_file(root, variant), f"{variant} is being built already, by {{holder}}", wait=0.5)


def _lock_file(root: Path, variant: str) -> Path:
    return root / variant / ".lock"


def _build(path: Path, variant: str, running: bool) -> Build | None:
    state_file = path / "state.json"
    if not state_file.exists():
        return None
    try:
        raw = artifacts_manifest._parsed(artifacts_manifest._content(state_file), state_file)
        state, detail = raw["state"], raw.get("detail", "")
    except (VerifyError, KeyError) as error:
        state, detail = FAILED, str(error)
    if state == RUNNING and not running:
        state = "leftover"
    return Build(folder=path, variant=variant, build_id=path.name, state=state, detail=detail)


def complete(root: Path, variant: Variant) -> list[Build]:
    """The complete builds of a variant, the oldest first."""
    return [build for build in builds(root, variant.name) if build.state == COMPLETE]
