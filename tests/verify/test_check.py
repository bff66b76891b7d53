"""Outcome of a check that cannot be carried out."""

import errno
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.util.errors import HostError, Interrupted, ProgramError, VerifyError
from pipelines.verify import check as verify_check
from tests.support.small_image import (
    Guest,
)
from tests.support.verification import refusal

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ProgramError(("qemu-img", "convert"), 1, "qemu-img: error while writing: No space left on device\nmore"),
        VerifyError("the root file system cannot be read: dump: No space left on device while writing file"),
        VerifyError("the root file system cannot be read: mount: failed to setup loop device for /proc/1/fd/3."),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
)
def test_a_check_that_this_host_prevents_has_no_result(error: Exception) -> None:
    def prevented(_: object) -> verify_check.Outcome:
        raise error

    with pytest.raises(HostError):
        verify_check.carried_out("any", prevented, object())


def test_an_interrupt_is_no_result_of_a_check() -> None:
    def interrupted(_: object) -> verify_check.Outcome:
        raise Interrupted(15)

    with pytest.raises(Interrupted):
        verify_check.carried_out("any", interrupted, object())


def test_a_check_that_raises_has_failed(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/etc/gpu-image.json"] = "not JSON"
    assert refusal("identity", guest, tmp_path).startswith("could not be checked: ")
