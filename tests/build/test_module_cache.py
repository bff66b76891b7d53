"""Cache of compiled kernel modules after a build."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.build import module_cache
from pipelines.cache import store

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache with one entry."""
    module_cache.take(built(tmp_path / "before", KEY), tmp_path / "cache", NOW)
    return tmp_path / "cache"


def built(folder: Path, *keys: str, content: str = "modules", **listed: str) -> Path:
    """What the phases of a build leave: modules under these keys, and lists of keys by name."""
    folder.mkdir()
    for key in keys:
        (folder / key).mkdir()
        (folder / key / "content").write_text(content)
        (folder / key / "about").write_text("nvidia 550.163.01 for kernel 6.12.1-amd64\n")
    for name, key in listed.items():
        (folder / name).write_text(f"{key}\n")
    return folder


def cached(root: Path) -> list[tuple[str, int]]:
    """Keys and hits."""
    return sorted((entry.key, entry.hits) for entry in store.entries(root))


def test_a_build_that_did_nothing_with_modules_changes_nothing(root: Path, tmp_path: Path) -> None:
    assert module_cache.take(built(tmp_path / "new"), root, NOW) == ""
    assert cached(root) == [(KEY, 0)]


def test_what_a_build_compiled_is_cached_under_its_key_with_what_it_is(root: Path, tmp_path: Path) -> None:
    assert module_cache.take(built(tmp_path / "new", OTHER), root, NOW) == ""
    assert cached(root) == [(KEY, 0), (OTHER, 0)]
    assert {entry.about for entry in store.entries(root)} == {"nvidia 550.163.01 for kernel 6.12.1-amd64"}
    with store.reading(root, module_cache.KIND, OTHER) as content:
        assert content is not None
        assert content.read_text() == "modules"


def test_what_a_build_took_is_named_and_counted(root: Path, tmp_path: Path) -> None:
    assert module_cache.take(built(tmp_path / "new", used=KEY), root, NOW) == KEY
    assert cached(root) == [(KEY, 1)]


def test_damaged_modules_give_way_to_those_compiled_instead(root: Path, tmp_path: Path) -> None:
    module_cache.take(built(tmp_path / "new", KEY, content="compiled anew", damaged=KEY), root, NOW)
    with store.reading(root, module_cache.KIND, KEY) as content:
        assert content is not None
        assert content.read_text() == "compiled anew"


def test_damaged_modules_go_even_when_nothing_takes_their_place(root: Path, tmp_path: Path) -> None:
    module_cache.take(built(tmp_path / "new", damaged=KEY), root, NOW)
    assert cached(root) == []
