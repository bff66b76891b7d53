"""Is what a server gets at its first boot still out of the image?

A licence for vGPU, and the state of GPUs and switches that only the server itself knows.
"""

import re
from collections.abc import Callable, Iterable

from pipelines.diskimage.filesystem import FileSystem
from pipelines.verify.check import Guest, Outcome, outcome

# The same as elements/no-licences looks for in the whole tree; here where an operator's or a driver's files may be.
_PLACES = ("/etc", "/home", "/opt", "/root", "/srv", "/usr/local", "/usr/share/nvidia", "/var")
_FOLDERS = ("/etc/nvidia/ClientConfigToken/", "/var/lib/nvidia/GridLicensing/")
_TOKEN = re.compile(rb"^eyJ", re.MULTILINE)
_FLEXNET = re.compile(rb"^(SERVER|VENDOR|DAEMON|FEATURE|INCREMENT) ", re.MULTILINE)
_SERVER = re.compile(rb"^\s*(?:Backup)?ServerAddress[ \t]*=[ \t]*\S", re.MULTILINE)
# Units that may be installed and must not be enabled, each with its reason.
_NOT_ENABLED = {
    "nvidia-fabricmanager.service": "it fails on a server without NVSwitches",
    "nvidia-imex.service": "it belongs to servers with NVLink between them",
    "nvidia-mig-manager.service": "how GPUs are partitioned is each server's own",
    "nvidia-mig.service": "how GPUs are partitioned is each server's own",
}


def licences(guest: Guest) -> Outcome:
    """No licence of NVIDIA's software, nor what leads to one."""
    files = guest.files
    paths = [path for place in _PLACES for path, entry in files.walk(place).items() if entry.is_file]
    found = [path for path in paths if path.startswith(_FOLDERS)]
    found += _containing(files, (path for path in paths if path.lower().endswith(".tok")), _TOKEN)
    found += _containing(files, (path for path in paths if path.lower().endswith(".lic")), _FLEXNET)
    found += _containing(files, (path for path in paths if path.startswith("/etc/nvidia/gridd.conf")), _SERVER)
    return outcome([f"{path} is a licence, or leads to one" for path in sorted(set(found))], "none")


def boot_time_services(guest: Guest) -> Outcome:
    """Nothing is enabled that partitions GPUs (MIG) or configures switches: each server's operator does that."""
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
