"""Phases of elements run in a complete guest, without building an image of it.

A guest here is trees laid over each other, with its changes in a folder of its own: a new guest is there in a moment.
DIB's own dib-run-parts runs the phases in it, after the same preparations that DIB makes.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import diskimage_builder

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DIB = Path(diskimage_builder.__file__).parent
_MOUNT = """
set -eu
lower=$1 own=$2
shift 2
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$own/upper,workdir=$own/work" "$own/root"
mount -t proc proc "$own/root/proc"
mount --rbind /sys "$own/root/sys"
mount --rbind /dev "$own/root/dev"
mount -t tmpfs tmpfs "$own/root/run"
mount -t tmpfs tmpfs "$own/root/tmp"
chmod 1777 "$own/root/tmp"
mkdir -p "$own/root/run/systemd/resolve"
cp /etc/resolv.conf "$own/root/run/systemd/resolve/stub-resolv.conf"
"""
_COMMAND = 'exec chroot "$own/root" /bin/bash -euo pipefail -c "$1"\n'
_PHASES = """
export TMP_MOUNT_PATH=$own/root TMP_HOOKS_PATH=$own/hooks
if [ -d "$own/hooks/extra-data.d" ]; then "$own/hooks/dib-run-parts" "$own/hooks/extra-data.d"; fi
mkdir "$own/root/tmp/in_target.d"
mount --bind "$own/hooks" "$own/root/tmp/in_target.d"
for phase in "$@"; do
    if [ -d "$own/hooks/$phase" ]; then
        chroot "$own/root" env -u TMPDIR /tmp/in_target.d/dib-run-parts "/tmp/in_target.d/$phase"
    fi
done
"""
# Nothing starts in a chroot; nothing compiles or makes an initramfs before the phases say so.
_BEFORE_PACKAGES = """
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
mkdir -p /etc/dkms
touch /etc/dkms/no-autoinstall
dpkg-divert --quiet --local --rename --divert /usr/sbin/update-initramfs.real --add /usr/sbin/update-initramfs
ln -sf /bin/true /usr/sbin/update-initramfs
echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/02apt-speedup
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$PACKAGES"
"""


class Guest:
    """A root file system: `lower` trees, the topmost first, and a folder for what is changed."""

    def __init__(self, folder: Path, *lower: Path) -> None:
        self._folder = folder
        self._lower = ":".join(str(path) for path in lower)
        for name in ("upper", "work", "root"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    @property
    def changes(self) -> Path:
        """What is different from the trees below."""
        return self._folder / "upper"

    def run(self, script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a bash script in it; `stdout` has all that it prints."""
        return self._enter(_COMMAND, [script], environment)

    def install(self, *packages: str) -> None:
        """Install packages, and compile nothing."""
        result = self.run(_BEFORE_PACKAGES.replace('"$PACKAGES"', " ".join(packages)))
        assert result.returncode == 0, result.stdout

    def phases(
        self,
        elements: Mapping[str, Path],
        environment: Mapping[str, str],
        *phases: str,
        known: Iterable[str] = (),
    ) -> "subprocess.CompletedProcess[str]":
        """Run phases of elements, by name and folder, as DIB does; `known` ones only lend programs, names, settings."""
        hooks = self._folder / "hooks"
        shutil.rmtree(hooks, ignore_errors=True)
        hooks.mkdir()
        shutil.copy(_DIB / "lib/dib-run-parts", hooks)
        for name, folder in elements.items():
            self._lend(name, folder)
            wanted = ["environment.d"] if name in set(known) else [path.name for path in folder.glob("[!_]*/")]
            for each in wanted:
                if (folder / each).is_dir():
                    shutil.copytree(folder / each, hooks / each, symlinks=True, dirs_exist_ok=True)
        return self._enter(_PHASES, phases, {"ARCH": "amd64", "DIB_PYTHON_EXEC": sys.executable, **environment})

    def json(self, script: str) -> object:
        """What a script prints, as JSON."""
        return json.loads(self.run(script).stdout)

    def _lend(self, name: str, folder: Path) -> None:
        """An element's programs and package names, where phases look for them."""
        programs, names = self.changes / "usr/local/bin", self.changes / "usr/share/pkg-map"
        for target in (programs, names):
            target.mkdir(parents=True, exist_ok=True)
        if (folder / "bin").is_dir():
            shutil.copytree(folder / "bin", programs, dirs_exist_ok=True)
        if (folder / "pkg-map").exists():
            shutil.copy(folder / "pkg-map", names / name)

    def _enter(
        self, script: str, arguments: Iterable[str], environment: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        argv = ["unshare", "--mount", "bash", "-c", _MOUNT + script, "bash", self._lower, self._folder, *arguments]
        settings = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **environment}
        return subprocess.run(
            argv,
            env=settings,
            cwd=os.sep,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
