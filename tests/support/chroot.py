"""A root to run an element's phase in: this machine's own, copied on write, with programs and files of the test's.

An overlay in a mount namespace of its own is a whole Debian in a moment; nothing of it reaches the machine.
"""

import shutil
import subprocess
from pathlib import Path

from tests.support.paths import ELEMENTS

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A modinfo that reads modules of a test's, which are text: field=value lines.
MODINFO = 'for file; do echo "filename: $file"; sed "s/=/: /" "$file"; done'
_ENTER = """
set -eu
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
cp -a "$2/." "$1/upper/"
mkdir -p "$1/upper/tmp"
chmod 1777 "$1/upper/tmp"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mkdir -p "$1/root/lib/modules"
mount -t tmpfs tmpfs "$1/root/lib/modules"
cp -a "$3/." "$1/root/lib/modules/"
mount -t proc proc "$1/root/proc"
mount --bind /dev "$1/root/dev"
cp "$4" "$1/root/tmp/phase"
status=0
shift 4
root=$0
env -i "$@" chroot "$root/root" /bin/bash /tmp/phase || status=$?
ls "$root/root/lib/modules" | sed 's/^/kernel left: /'
exit "$status"
"""


class Chroot:
    """What the test lays over the machine's root, and what it puts into /lib/modules."""

    def __init__(self, folder: Path) -> None:
        self._mount = folder / "mount"
        self._files = folder / "files"
        self._modules = folder / "modules"
        for path in (self._mount, self._files, self._modules):
            path.mkdir()

    def file(self, path: str, text: str = "") -> None:
        """A file of the root; one below /lib/modules belongs to the kernels, which are the test's alone."""
        home = self._modules if path.startswith("/lib/modules/") else self._files
        target = home / path.removeprefix("/lib/modules/").lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def program(self, name: str, script: str) -> None:
        """A program that is found before the machine's own."""
        self.file(f"/usr/local/sbin/{name}", f"#!/bin/bash\n{script}\n")
        (self._files / f"usr/local/sbin/{name}").chmod(0o755)

    def commands(self, element: str) -> None:
        """What an element's bin/ has, where DIB puts it; a program of the test's is found before it."""
        for path in (ELEMENTS / element / "bin").iterdir():
            self.file(f"/usr/local/bin/{path.name}", path.read_text())
            (self._files / f"usr/local/bin/{path.name}").chmod(0o755)

    def copy(self, source: Path, path: str) -> None:
        """A file or folder of this machine's, in the root."""
        target = self._files / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)

    def remove(self, path: str) -> None:
        """Take back a file of the test's."""
        home = self._modules if path.startswith("/lib/modules/") else self._files
        (home / path.removeprefix("/lib/modules/").lstrip("/")).unlink()

    def link(self, path: str, target: str) -> None:
        """A symbolic link in the root."""
        place = self._files / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def run(self, script: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a phase's script as DIB would; `stdout` has all that it prints."""
        pairs = [f"PATH={PATH}", "LC_ALL=C", "HOME=/root", *(f"{name}={value}" for name, value in environment.items())]
        places = [self._mount, self._files, self._modules, script]
        argv = ["unshare", "--mount", "bash", "-c", _ENTER, self._mount, *places, *pairs]
        return subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
        )
