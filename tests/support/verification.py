"""Verification of small images that tests have broken: builds and guests, and what is found wrong with them."""

from collections.abc import Callable
from pathlib import Path

from pipelines.artifacts.manifest import Verification
from pipelines.artifacts.store import Build
from pipelines.catalog.variant import Variant
from pipelines.diskimage import filesystem, gpt
from pipelines.verify import check, verifier
from tests.support.small_image import VARIANT, Guest, finished, manifest, run

_GUEST_CHECKS = dict((*verifier.GUEST_CHECKS, *verifier.DRIVER_CHECKS))


def rebuilt(made: Path, tmp_path: Path, change: Callable[[Path], None]) -> Build:
    """A build whose raw disk was changed."""
    raw, folder = tmp_path / "disk.raw", tmp_path / "build"
    run("cp", "--sparse=always", str(made / "disk.raw"), str(raw))
    change(raw)
    folder.mkdir()
    return finished(folder, raw)


def failed(verification: Verification) -> dict[str, str]:
    """The failed checks, by name, with their details."""
    return {check.name: check.detail for check in verification.checks if check.passed is False}


def refusal(name: str, guest: Guest, folder: Path, variant: Variant = VARIANT) -> str:
    """The detail of a check of a guest that it must refuse."""
    found = examined(name, guest, folder, variant)
    assert found.passed is False, found
    return found.detail


def examined(name: str, guest: Guest, folder: Path, variant: Variant = VARIANT) -> check.Check:
    """A check of the guest or its driver, by name."""
    raw = guest.disk(folder)
    root = gpt.partition_table(raw).partitions[-1]
    with filesystem.opened(raw, root, "ext4") as files:
        subject = check.Guest(manifest=manifest(), variant=variant, disk=raw, files=files)
        return check.carried_out(name, _GUEST_CHECKS[name], subject)
