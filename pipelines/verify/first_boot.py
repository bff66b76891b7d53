"""Checks that the image leaves to a server's first boot what only that server can know.

A licence for vGPU, and the configuration of its GPUs and switches.
"""

import re
from collections.abc import Callable, Iterable

from pipelines.diskimage.filesystem import FileSystem
from pipelines.verify.check import Guest, Outcome, outcome

# What elements/no-licences looks for in the whole tree; here only where an operator's or a driver's files may be.
_PLACES = ("/etc", "/home", "/opt", "/root", "/srv", "/usr/local", "/usr/share/nvidia", "/var")
_FOLDERS = ("/etc/nvidia/ClientConfigToken/", "/var/lib/nvidia/GridLicensing/")
_TOKEN = re.compile(rb"^eyJ", re.MULTILINE)
_FLEXNET = re.compile(rb"^(SERVER|VENDOR|DAEMON|FEATURE|INCREMENT) ", re.MULTILINE)
_SERVER = re.compile(rb"^\s*(?:Backup)?ServerAddress[ \t]*=[ \t]*\S", re.MULTILINE)
# Units that may be installed and must not be enabled, each with its reason.
_NOT_ENABLED = {
    "nvidia-fabricmanager.service": "it fails on a server without NVSwitches",
    "nvidia-imex.service": "it is only for servers with NVLink between them",
    "nvidia-mig-manager.service": "each server's operator decides how its GPUs are partitioned",
    "nvidia-mig.service": "each server's operator decides how its GPUs are partitioned",
}


def licences(guest: Guest) -> Outcome:
    """No licence of NVIDIA's software, nor the address of a licence server."""
    files = guest.files
    paths = [path for place in _PLACES for path, entry in files.walk(place).items() if entry.is_file]
    found = [path for path in paths if path.startswith(_FOLDERS)]
    found += _containing(files, (path for path in paths if path.lower().endswith(".tok")), _TOKEN)
    found += _containing(files, (path for path in paths if path.lower().endswith(".lic")), _FLEXNET)
    found += _containing(files, (path for path in paths if path.startswith("/etc/nvidia/gridd.conf")), _SERVER)
    return outcome([f"{path} contains or refers to a licence" for path in sorted(set(found))], "none")


def boot_time_services(guest: Guest) -> Outcome:
    """No unit is enabled that partitions GPUs (MIG) or configures switches: each server's operator does that."""
    folder = "/etc/systemd/system"
    wants = [f"{folder}/{name}" for name in guest.files.listdir(folder) if name.endswith((".wants", ".requires"))]
    enabled = {name for each in wants for name in guest.files.listdir(each)}
    problems = [f"{unit} is enabled: {why}" for unit, why in _NOT_ENABLED.items() if unit in enabled]
    return outcome(problems, "fabric manager, IMEX and MIG are left to the server")


CHECKS: tuple[tuple[str, Callable[[Guest], Outcome]], ...] = (
    ("licences", licences),
    ("boot-time-services", boot_time_services),
)


def _containing(files: FileSystem, paths: Iterable[str], pattern: re.Pattern[bytes]) -> list[str]:
    return [path for path, content in files.contents(paths).items() if pattern.search(content)]
