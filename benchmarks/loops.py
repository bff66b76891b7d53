"""Which loop devices has a measured program left?"""

import os
from pathlib import Path

from pipelines.util import process

_MAPPED = Path("/dev/mapper")


def detach(folder: Path) -> None:
    """Detach the loop devices of files below a folder, which those of a program that was killed stay.

    With them go the links that our stand-in for kpartx has made to them.
    """
    listed = process.run(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"], deadline=60).stdout
    for line in listed.splitlines():
        name, _, file = line.partition(" ")
        if file.strip().startswith(f"{folder}/"):
            links = [str(link) for link in _MAPPED.glob("loop*p*") if os.readlink(link) == name]
            process.run([*process.as_root(), "losetup", "--detach", name], deadline=60)
            process.run([*process.as_root(), "rm", "-f", "--", *links], deadline=60)
