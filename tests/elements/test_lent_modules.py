"""The host's folders of compiled modules in the chroot, and nothing of them left in the tree."""

import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ELEMENTS

ELEMENT = ELEMENTS / "nvidia-driver"
LEND, RETURN = ELEMENT / "extra-data.d/40-lend-modules", ELEMENT / "post-root.d/10-return-modules"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A guest's tree; beside it, `kept` with one entry."""
    (tmp_path / "tree/tmp").mkdir(parents=True)
    (tmp_path / "kept/key").mkdir(parents=True)
    (tmp_path / "kept/key/content").write_text("modules")
    return tmp_path / "tree"


def in_a_build(tree: Path, script: str, **environment: Path | str) -> "subprocess.CompletedProcess[str]":
    """Run a script in a mount namespace of its own, as a build is; $place is where the chroot finds the folders."""
    folders = {"DIB_KERNEL_MODULES_KEPT": tree.parent / "kept", "DIB_KERNEL_MODULES_NEW": tree.parent / "new"}
    given = {"TMP_MOUNT_PATH": tree, "place": tree / "tmp/kernel-modules", **folders, **environment}
    variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **{name: str(value) for name, value in given.items()}}
    argv = ["unshare", "--mount", "bash", "-euc", script]
    return subprocess.run(argv, env=variables, capture_output=True, text=True, check=False, timeout=30)


def test_cached_modules_are_lent_for_reading_and_new_ones_come_back(tree: Path) -> None:
    script = f"{LEND}; cat $place/kept/key/content; echo compiled > $place/new/file; rm $place/kept/key/content"
    result = in_a_build(tree, script)
    assert result.stdout == "modules"
    assert "Read-only file system" in result.stderr
    assert (tree.parent / "new/file").read_text() == "compiled\n"


def test_nothing_of_them_is_left_in_the_tree(tree: Path) -> None:
    result = in_a_build(tree, f"{LEND}; echo compiled > $place/new/file; {RETURN}; ls -A $TMP_MOUNT_PATH/tmp")
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert [path.name for path in sorted(tree.parent.rglob("*")) if path.is_file()] == ["content", "file"]


def test_a_first_build_finds_nothing_cached(tree: Path) -> None:
    result = in_a_build(tree, f"{LEND}; ls -A $place/kept; {RETURN}", DIB_KERNEL_MODULES_KEPT=tree.parent / "absent")
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_without_a_cache_nothing_is_lent(tree: Path) -> None:
    result = in_a_build(tree, f"{LEND}; {RETURN}", DIB_KERNEL_MODULES_NEW="")
    assert result.returncode == 0, result.stderr
    assert list((tree / "tmp").iterdir()) == []


def test_a_folder_that_is_still_in_use_fails_the_build(tree: Path) -> None:
    result = in_a_build(tree, f"{LEND}; cd $place/new; {RETURN}")
    assert result.returncode != 0
    assert "busy" in result.stderr
