"""A real, small disk, for tests to read and to damage."""

from pathlib import Path

import pytest

from pipelines.diskimage import gpt
from pipelines.diskimage.gpt import PartitionTable
from tests.support.small_image import (
    PRIVATE_KEY,
    Guest,
    Link,
    run,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build whose guest has some odd files; its raw disk is disk.raw."""
    root = tmp_path_factory.mktemp("disk")
    guest = Guest()
    guest.files |= {
        "/odd/a b": "space",
        '/odd/quo"te': "quote",
        "/odd/big": bytes(range(256)) * 4096,
        "/odd/far": Link("/odd/" + "../odd/" * 20 + "big"),
        "/odd/outside": Link("/../../../../odd/big"),
        "/odd/loop": Link("loop"),
        "/odd/dangling": Link("nothing"),
        "/odd/folder": Link("/etc/modprobe.d"),
        "/odd/key": PRIVATE_KEY,
    }
    guest.build(root)
    return root


@pytest.fixture
def raw(made: Path) -> Path:
    return made / "disk.raw"


@pytest.fixture
def copy(raw: Path, tmp_path: Path) -> Path:
    """A raw disk that a test may damage."""
    run("cp", "--sparse=always", str(raw), str(tmp_path / "disk.raw"))
    return tmp_path / "disk.raw"


@pytest.fixture
def table(raw: Path) -> PartitionTable:
    return gpt.partition_table(raw)
