"""Differences that two builds of one image may have, each with its reason."""

import json
import re

from pipelines.util import compression
from pipelines.verify import module_signatures
from tests.support.same_image import Allowed


def without_build_id(content: bytes) -> object:
    """A guest's identity but for the build that it names."""
    return json.loads(content) | {"build_id": ""}


def without_signature(content: bytes) -> object:
    """A module's code, and whether it is signed."""
    module = compression.decompressed(content)
    try:
        return module_signatures.parted(module)[0], True
    except ValueError:
        return module, False


def without_times(content: bytes) -> object:
    """The lines of DKMS's log but for times, process numbers and the number of jobs, in no order."""
    return sorted(_OF_ONE_RUN.sub(b"", content).splitlines())


def without_days(content: bytes) -> object:
    """The accounts, but for the day on which each password was last changed."""
    accounts = [line.split(b":") for line in content.splitlines()]
    return [account[:2] + account[3:] for account in accounts]


_OF_ONE_RUN = re.compile(rb"\w{3} \w{3} [ \d]\d (?=\d\d:)|\d\d:\d\d:\d\d( [A-Z]+ \d{4})?|(?<=conftest)\d+|(?<= -j)\d+")
MADE_BY_DKMS = (
    r".*/lib/modules/[^/]+/updates/dkms/nvidia[\w-]*\.ko\.xz|/var/lib/dkms/nvidia.*/module/nvidia[\w-]*\.ko\.xz"
)
ALLOWED = (
    Allowed(
        thing="/etc/gpu-image.json",
        fact="content",
        why="a build has an ID of its own",
        but_for=without_build_id,
    ),
    Allowed(
        thing="/etc/shadow-?",
        fact="content",
        why="an account is made on the day of the build",
        but_for=without_days,
    ),
    Allowed(
        thing="file system",
        fact="Filesystem UUID|Directory Hash Seed|Checksum",
        why="drawn by lot for every file system; the checksum is over them",
    ),
    Allowed(
        thing="file system",
        fact="Filesystem created|Last checked|Last write time",
        why="when it was made",
    ),
    Allowed(
        thing=MADE_BY_DKMS,
        fact="content",
        why="DKMS signs with a key that every build makes and throws away",
        but_for=without_signature,
    ),
    Allowed(
        thing=r"/var/lib/dkms/nvidia.*/log/make\.log",
        fact="content",
        why="when it was compiled, by how many jobs, and in which order these ended",
        but_for=without_times,
    ),
)
