"""Test of a folder: whether it can hold a guest's files.

disk_space.py runs it as root, as a program of its own with any Python, and reads what cannot be done there, one per
line. It does what a guest's packages do: device nodes, file capabilities, programs.
"""

import os
import shutil
import stat
import struct
import sys
import tempfile
from pathlib import Path

# CAP_NET_RAW in the form of linux/capability.h: revision 2, effective.
_CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)


def main(folder: str) -> None:
    """Try everything in a temporary folder."""
    try:
        made = tempfile.TemporaryDirectory(dir=folder, prefix=".probe-")
    except OSError as error:
        print(f"new folders ({error.strerror})")
        return
    with made as scratch:
        for name, attempt in (
            ("device nodes", device_node),
            ("file capabilities", capability),
            ("running programs", program),
        ):
            try:
                attempt(Path(scratch))
            except OSError as error:
                print(f"{name} ({error.strerror})")


def device_node(scratch: Path) -> None:
    """Create a device node and read it: it can be useless (nodev)."""
    path = scratch / "null"
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    path.read_bytes()


def capability(scratch: Path) -> None:
    """Give a file a capability, as ping has one."""
    path = scratch / "capable"
    path.touch()
    os.setxattr(path, "security.capability", _CAPABILITY)
    if os.getxattr(path, "security.capability") != _CAPABILITY:
        raise OSError(0, "lost")


def program(scratch: Path) -> None:
    """Run a program from the folder."""
    path = shutil.copy("/bin/true", scratch / "true")
    if os.spawnv(os.P_WAIT, path, [str(path)]) != 0:
        raise OSError(0, "refused")


if __name__ == "__main__":
    main(sys.argv[1])
