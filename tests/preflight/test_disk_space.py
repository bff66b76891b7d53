"""The builds folder has to have disk space and to hold a guest's files."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.preflight import disk_space
from pipelines.util.errors import HostError


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of the type and with the options that the test names."""
    kind, options = request.param
    folder = tmp_path / "mounted"
    folder.mkdir()
    subprocess.run(["mount", "-t", kind, "-o", options, kind, folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_folder_that_can_hold_a_guest_is_fit_and_left_as_it_was(tmp_path: Path) -> None:
    assert disk_space.tree(tmp_path, ()).fit
    assert list(tmp_path.iterdir()) == []


def test_a_folder_to_come_is_judged_by_where_it_will_be(tmp_path: Path) -> None:
    finding = disk_space.tree(tmp_path / "not" / "yet", ())
    assert finding.fit
    assert str(tmp_path) in finding.detail
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mounted", "refused"),
    [
        (("tmpfs", "nodev"), "device nodes"),
        (("tmpfs", "noexec"), "running programs"),
        (("ramfs", "rw"), "file capabilities"),
        (("tmpfs", "ro"), "new folders"),
    ],
    indirect=["mounted"],
)
def test_a_file_system_that_cannot_hold_a_guest_is_fatal(mounted: Path, refused: str) -> None:
    finding = disk_space.tree(mounted, ())
    assert finding.breaks
    assert f"does not allow {refused} (" in finding.detail
    assert "--builds DIR" in finding.remedy


@pytest.mark.parametrize("path", ["/dev/null", "/dev/null/builds", "/proc/builds"])
def test_a_path_that_can_be_no_folder_is_fatal(path: str) -> None:
    assert disk_space.tree(Path(path), ()).breaks


@pytest.mark.parametrize("path", ["/dev/null", "/dev/null/builds", "/proc/builds"])
def test_a_folder_that_cannot_be_created_is_an_error_with_the_remedy(path: str) -> None:
    with pytest.raises(HostError, match=f"{path} cannot be created") as caught:
        disk_space.make(Path(path))
    assert "--builds DIR" in caught.value.remedy


def test_too_little_space_is_fatal_and_comes_with_the_remedy(tmp_path: Path) -> None:
    finding = disk_space.space(tmp_path / "not-yet-there", 2**60)
    assert finding.breaks
    assert "--builds" in finding.remedy


@pytest.mark.parametrize("mounted", [("tmpfs", "size=100M")], indirect=True)
def test_as_many_builds_run_at_once_as_the_disk_space_allows(mounted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mib = 2**20
    assert disk_space.jobs(mounted, [40 * mib, 40 * mib, 40 * mib], 3) == 2
    assert "there is disk space for only 2 builds at once" in capsys.readouterr().err
    assert disk_space.jobs(mounted, [40 * mib, 40 * mib, 40 * mib], 2) == 2
    assert disk_space.jobs(mounted, [200 * mib, 40 * mib], 2) == 1  # the build itself says that there is none
    assert capsys.readouterr().err == ""
