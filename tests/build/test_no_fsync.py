"""Suppression of fsync, tried on the running kernel with a file descriptor that no process has open."""

import struct
import subprocess
import sys
from collections.abc import Sequence

import pytest

from pipelines.build import no_fsync

FILTERED = (sys.executable, "-I", no_fsync.__file__)
# Prints what each call returns: -1, since there is no file 999, where the kernel gets to see it.
CALLS = """
import ctypes
libc, zero = ctypes.CDLL(None), ctypes.c_long(0)
print(libc.fsync(999), libc.fdatasync(999), libc.syncfs(999), libc.sync_file_range(999, zero, zero, 2), libc.close(999))
"""
ASKED = (sys.executable, "-I", "-c", CALLS)
REFUSED, SUPPRESSED = "-1 -1 -1 -1 -1\n", "0 0 0 0 -1\n"
OTHER_ARCHITECTURES = (0x40000003, 0x40000028)  # 32-bit x86 and ARM (linux/audit.h)


def run(argv: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)


def test_without_it_the_kernel_sees_every_call() -> None:
    assert run(ASKED).stdout == REFUSED


@pytest.mark.parametrize(
    "through",
    [
        (),
        ("bash", "-c", '"$0" "$@" & wait'),
        ("sudo", "-n"),
        ("sudo", "-n", "chroot", "/"),
        ("unshare", "--mount", "--pid", "--fork"),
    ],
)
def test_nothing_that_the_program_starts_waits_for_the_disk(through: tuple[str, ...]) -> None:
    result = run([*FILTERED, *through, *ASKED])
    assert (result.stdout, result.stderr) == (SUPPRESSED, "")


def test_what_runs_beside_it_is_not_affected() -> None:
    with subprocess.Popen([*FILTERED, "sleep", "30"]) as beside:
        assert run(ASKED).stdout == REFUSED
        beside.kill()


def test_the_program_gets_its_arguments_and_its_exit_code_is_passed_on() -> None:
    result = run([*FILTERED, "sh", "-c", 'echo "$1"; exit 7', "sh", "a b"])
    assert (result.stdout, result.returncode) == ("a b\n", 7)


def test_a_program_whose_reader_is_gone_ends_as_ever() -> None:
    result = run([*FILTERED, "bash", "-c", "yes | head -n 1; echo ${PIPESTATUS[0]}"])
    assert result.stdout == "y\n141\n"


def test_where_the_filter_is_refused_the_program_runs_and_one_line_reports_it() -> None:
    result = run(["setpriv", "--bounding-set=-sys_admin", *FILTERED, *ASKED])
    assert (result.stdout, result.returncode) == (REFUSED, 0)
    assert result.stderr == "no_fsync: the build waits for the disk, which is slower: Permission denied\n"


def test_sudo_is_still_allowed_what_it_was_where_the_filter_is_refused() -> None:
    status = run(["setpriv", "--bounding-set=-sys_admin", *FILTERED, "cat", "/proc/self/status"]).stdout
    assert "NoNewPrivs:\t0\n" in status


def test_a_program_that_cannot_be_started_is_named() -> None:
    result = run([*FILTERED, "no-such-program"])
    assert (result.returncode, result.stderr) == (
        127,
        "no_fsync: cannot start no-such-program: No such file or directory\n",
    )


def judged(program: bytes, architecture: int, number: int) -> int:
    """What the kernel would make of a call: the filter, interpreted."""
    value, at = 0, 0
    steps = list(struct.iter_unpack("=HBBI", program))
    while True:
        code, then, otherwise, operand = steps[at]
        at += 1
        if code == 0x06:
            return int(operand)
        if code == 0x20:
            value = {0: number, 4: architecture}[operand]
        else:
            assert code == 0x15
            at += then if value == operand else otherwise


@pytest.mark.parametrize("machine", no_fsync.MACHINES)
def test_just_the_five_calls_are_suppressed_on_each_machine(machine: str) -> None:
    own, _, calls = no_fsync.MACHINES[machine]
    program = no_fsync.program(machine)
    suppressed = {number for number in range(1024) if judged(program, own, number) == 0x00050000}
    assert suppressed == set(calls)
    assert len(calls) == 5
    others = [(other, number) for other in OTHER_ARCHITECTURES for number in range(1024)]
    others += [(own, 0x40000000 + number) for number in range(1024)]  # the x32 way of calling
    assert {judged(program, *other) for other in others} == {0x7FFF0000}
