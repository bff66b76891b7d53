"""Program that runs another one without waiting for the disk: `python -I no_fsync.py PROGRAM ARGUMENT…`.

Runs as root, alone, with any Python. For the program and all that it starts, also in a chroot and behind sudo, fsync
and its relatives do nothing and report success, as under `systemd-nspawn --suppress-sync`. Package managers call them
for every file; the tree of an interrupted build is deleted anyway. No other process is affected, and what a build
leaves is synced afterwards, by the process that stores it.

A seccomp filter does that. No library does it better: eatmydata's would have to be preloaded in the guest too, and does
not get past sudo; libseccomp's binding is for the system's Python alone; pyseccomp on PyPI (last release 2021) is a
wrapper of that C library, which hosts would need besides, for the three kinds of instructions that are written here.
"""

import ctypes
import os
import platform
import signal
import struct
import sys

# linux/bpf_common.h and linux/seccomp.h
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4  # in struct seccomp_data
_ALLOW, _SUCCEED = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ERRNO, with no error
_SET_FILTER = 1
# Without it, kernels before 5.16 slow filtered programs down against Spectre: this filter guards nothing.
_SPEC_ALLOW = 4

# By machine: linux/audit.h's name for it, the number of seccomp(), and those of sync, fsync, fdatasync, sync_file_range
# and syncfs (asm/unistd_64.h, asm-generic/unistd.h). Not msync: with it programs also ask whether memory is mapped.
MACHINES = {
    "x86_64": (0xC000003E, 317, (162, 74, 75, 277, 306)),
    "aarch64": (0xC00000B7, 277, (81, 82, 83, 84, 267)),
}


def main(argv: list[str]) -> int:
    """Become the program. Where the kernel refuses the filter, it runs without, only slower."""
    refusal = _suppress()
    if refusal:
        print(f"no_fsync: the build waits for the disk, which is slower: {refusal}", file=sys.stderr)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them, and programs would inherit that
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        print(f"no_fsync: cannot start {argv[0]}: {error.strerror}", file=sys.stderr)
        return 127


def program(machine: str) -> bytes:
    """The filter, as an array of struct sock_filter. A call of another architecture's (32-bit programs) passes."""
    architecture, _, calls = MACHINES[machine]
    steps = [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_JUMP_IF_EQUAL, 0, len(calls) + 1, architecture)]
    steps += [(_LOAD, 0, 0, _NUMBER_AT)]
    steps += [(_JUMP_IF_EQUAL, len(calls) - position, 0, call) for position, call in enumerate(calls)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _SUCCEED)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _suppress() -> str:
    """Give this process the filter for good; why that failed, else "".

    Without no_new_privs, which root does not need and which would break sudo.
    """
    machine = platform.machine()
    if machine not in MACHINES:
        return f"no filter is known for {machine}"
    steps = program(machine)
    array = ctypes.create_string_buffer(steps, len(steps))
    header = struct.pack("@HP", len(steps) // 8, ctypes.addressof(array))  # struct sock_fprog
    libc = ctypes.CDLL(None, use_errno=True)
    number = MACHINES[machine][1]
    failed = libc.syscall(ctypes.c_long(number), ctypes.c_ulong(_SET_FILTER), ctypes.c_ulong(_SPEC_ALLOW), header)
    return os.strerror(ctypes.get_errno()) if failed else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
