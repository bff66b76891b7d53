"""Traces of a build on its host: mounts, processes, scratch folders."""

import subprocess
from pathlib import Path


def left_behind(builds: Path) -> list[str]:
    """Mounts and processes of a build, and files that are neither logs nor results. Other tests' are none of its."""
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if f"{builds}/" in line]
    listed = subprocess.run(["pgrep", "-f", "sleep 98765"], capture_output=True, text=True, check=False)
    sleepers = [pid for pid in listed.stdout.split() if f"{builds}/" in environment_of(pid)]
    files = [str(path) for path in builds.rglob("*") if path.name == "scratch"]
    return mounts + sleepers + files


def environment_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return ""
