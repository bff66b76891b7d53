"""Loop devices that a measured program has left behind."""

import os
from pathlib import Path

from pipelines.util import process

_MAPPED = Path("/dev/mapper")


def detach(folder: Path) -> None:
    """Detach the loop devices of files below a folder, which a killed program leaves attached.

    With them go the links to them that our replacement for kpartx has made.
    """
    listed = process.run(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"], deadline=60).stdout
    for line in listed.splitlines():
        name, _, file = line.partition(" ")
        if file.strip().startswith(f"{folder}/"):
            links = [str(link) for link in _MAPPED.glob("loop*p*") if os.readlink(link) == name]
            process.run([*process.as_root(), "losetup", "--detach", name], deadline=60)
            process.run([*process.as_root(), "rm", "-f", "--", *links], deadline=60)
