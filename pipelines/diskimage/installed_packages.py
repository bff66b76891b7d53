"""Packages installed in a guest: dpkg's status or rpm's database, read out of the image without starting it."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipelines.diskimage.filesystem import FileSystem
from pipelines.util import process

_DPKG = "/var/lib/dpkg/status"
_RPM = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")  # newer and older releases
_RPM_FILES = ("rpmdb.sqlite", "rpmdb.sqlite-wal", "rpmdb.sqlite-shm")
_RPM_FORMAT = "%{NAME}\\t%|EPOCH?{%{EPOCH}}:{0}|\\t%{VERSION}-%{RELEASE}\\n"
_RPM_SECONDS = 120.0
_LOCKS = "/etc/dnf/plugins/versionlock.list"  # lines of NAME-EPOCH:VERSION-RELEASE.*, as dnf writes them


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """An installed package: its version with epoch and revision, and whether it is held back from upgrades."""

    version: str
    held: bool

    @property
    def upstream(self) -> str:
        """The version without the distribution's epoch and revision."""
        return self.version.split(":", 1)[-1].rsplit("-", 1)[0]


def installed(files: FileSystem) -> dict[str, Package]:
    """The guest's installed packages by name; ValueError when it has neither dpkg's database nor rpm's."""
    status = files.text(_DPKG)
    if status is not None:
        return _of_dpkg(status)
    for folder in _RPM:
        if files.stat(f"{folder}/{_RPM_FILES[0]}") is not None:
            return _of_rpm(files, folder)
    raise ValueError(f"there is neither {_DPKG} nor {' or '.join(_RPM)}/{_RPM_FILES[0]}")


def _of_dpkg(status: str) -> dict[str, Package]:
    found = {}
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" ok installed"):
            held = fields["Status"].startswith("hold ")
            found[fields["Package"]] = Package(version=fields.get("Version", ""), held=held)
    return found


def _of_rpm(files: FileSystem, folder: str) -> dict[str, Package]:
    """Every package but the keys that rpm has as packages. Of several versions of a kernel, one is listed."""
    database = files.contents(f"{folder}/{name}" for name in _RPM_FILES)
    locks = (files.text(_LOCKS) or "").splitlines()
    with tempfile.TemporaryDirectory() as scratch:
        for path, content in database.items():
            Path(scratch, path.rsplit("/", 1)[1]).write_bytes(content)
        argv = [process.require("rpm", "rpm"), "--dbpath", scratch, "--define", "_db_backend sqlite"]
        printed = process.run([*argv, "--query", "--all", "--queryformat", _RPM_FORMAT], deadline=_RPM_SECONDS).stdout
    found = {}
    for line in printed.splitlines():
        name, epoch, version = line.split("\t")
        if name != "gpg-pubkey":
            held = f"{name}-{epoch}:{version}.*" in locks
            found[name] = Package(version=version if epoch == "0" else f"{epoch}:{version}", held=held)
    return found
