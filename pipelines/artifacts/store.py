"""Builds on disk, their state and their lock.

A build is a folder, `builds/<variant>/<build_id>/`, and files are its only state:

    state.json      running, failed or complete; why it failed
    manifest.json   what was made, written once when the build is complete, never changed
    verify.json     the newest verification
    sbom.cdx.json   the SBOM
    image.qcow2     the artifact
    build.log       all output of diskimage-builder

Each JSON file is written under a temporary name and then renamed, so that a reader sees the old one or the new one.
"""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pipelines.artifacts.manifest import Manifest, Verification, read_manifest, read_object, read_verification
from pipelines.catalog.variant import Variant
from pipelines.util import files, locks
from pipelines.util.errors import UsageError, VerifyError

_TIME = "%Y%m%dT%H%M%SZ"
RUNNING, FAILED, COMPLETE = "running", "failed", "complete"


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """A build's folder and its state.

    `state` is "leftover" where state.json has running, but no process holds the lock: the build was killed.
    """

    folder: Path
    variant: str
    build_id: str
    state: Literal["running", "failed", "complete", "leftover"]
    detail: str = ""

    def manifest(self) -> Manifest:
        """The manifest; VerifyError when it is missing or corrupt."""
        return read_manifest(self.folder / "manifest.json")

    def verification(self) -> Verification | None:
        """The newest verification, None without one; VerifyError when it is corrupt."""
        path = self.folder / "verify.json"
        return read_verification(path) if path.exists() else None

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
    """All builds of a variant, the oldest first."""
    folder = root / variant
    if not folder.is_dir():
        return []
    running = locks.holder(_lock_file(root, variant)) is not None
    found = (_build(path, variant, running) for path in sorted(folder.iterdir()) if path.is_dir())
    return [build for build in found if build is not None]


def newest_complete(root: Path, variant: str, wanted: str | None = None) -> Build:
    """The newest complete build, or the one with the build ID `wanted`; UsageError when there is none."""
    complete = [build for build in builds(root, variant) if build.state == COMPLETE]
    if wanted is not None:
        complete = [build for build in complete if build.build_id == wanted]
    if not complete:
        which = f"build {wanted} of {variant}" if wanted else f"build of {variant}"
        raise UsageError(f"there is no complete {which} in {root}", remedy=f"Run `./inv build {variant}` first.")
    return complete[-1]


def lock(root: Path, variant: str) -> contextlib.AbstractContextManager[None]:
    """Hold the variant's build lock; HostError with the holder's name when another process holds it.

    The short wait is for processes that ask for the holder: they take the lock for a moment.
    """
    return locks.hold(_lock_file(root, variant), f"{variant} is already being built by {{holder}}", wait=0.5)


def _lock_file(root: Path, variant: str) -> Path:
    return root / variant / ".lock"


def _build(path: Path, variant: str, running: bool) -> Build | None:
    state_file = path / "state.json"
    if not state_file.exists():
        return None
    try:
        raw = read_object(state_file)
        state, detail = raw["state"], raw.get("detail", "")
    except (VerifyError, KeyError) as error:
        state, detail = FAILED, str(error)
    if state == RUNNING and not running:
        state = "leftover"
    return Build(folder=path, variant=variant, build_id=path.name, state=state, detail=detail)


def complete(root: Path, variant: Variant) -> list[Build]:
    """The complete builds of a variant, the oldest first."""
    return [build for build in builds(root, variant.name) if build.state == COMPLETE]
