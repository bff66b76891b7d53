"""The cache stays sound, whatever else uses it at the same time and wherever a process is killed."""

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.cache import store, usage
from pipelines.util.errors import UsageError
from tests.support.cached import CONTENT, FORK, KEY, NOW, ends, everywhere, files, keep, keys, taken, together, used_ago


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "builds" / ".cache"


# Entries.


def test_what_was_put_is_got_and_counted(root: Path) -> None:
    assert taken(root) is None
    keep(root)
    assert [taken(root), taken(root)] == [CONTENT, CONTENT]
    (entry,) = store.entries(root)
    assert (entry.kind, entry.key, entry.about, entry.size) == ("layers", KEY, f"about {KEY}", len(CONTENT))
    assert (entry.created_at, entry.hits) == (NOW, 2)
    assert datetime.now(UTC) - entry.used_at < timedelta(minutes=1)


def test_its_facts_are_known_without_reading_it(root: Path) -> None:
    assert store.facts(root, store.LAYERS, KEY) is None
    keep(root)
    (root / store.LAYERS / KEY / "content").unlink()
    assert store.facts(root, store.LAYERS, KEY) == {"archive": "1"}
    assert store.entries(root)[0].hits == 0


def test_the_finished_file_moves_in(root: Path) -> None:
    keep(root)
    assert list(root.parent.glob("finished-*")) == []


def test_the_first_of_two_entries_stays(root: Path) -> None:
    keep(root)
    keep(root, content=b"other")
    assert taken(root) == CONTENT
    assert files(root) == [f"layers/{KEY}", *(f"layers/{KEY}/{name}" for name in ("content", "entry.json", "uses"))]


def test_what_was_dropped_is_gone_and_can_be_made_again(root: Path) -> None:
    keep(root)
    store.drop(root, store.LAYERS, KEY)
    assert (taken(root), files(root)) == (None, [])
    keep(root, content=b"other")
    assert taken(root) == b"other"


def test_who_reads_what_is_dropped_can_end_that(root: Path) -> None:
    keep(root)
    with store.reading(root, store.LAYERS, KEY) as path:
        store.drop(root, store.LAYERS, KEY)
        assert taken(root) is None
        keep(root, content=b"other")
        assert path is not None
        assert path.read_bytes() == CONTENT
    assert store.shrink(root, 2**40) == []
    assert files(root) == []


def test_what_cannot_be_cached_leaves_nothing_behind(root: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        store.put(root, store.LAYERS, KEY, root / "nothing", about="", facts={}, now=NOW)
    assert files(root) == []


# Damage.


def test_a_flipped_byte_in_the_content_is_found_and_the_entry_dropped(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(root)
    content = root / store.LAYERS / KEY / "content"
    content.write_bytes(CONTENT[:5000] + bytes([CONTENT[5000] ^ 1]) + CONTENT[5001:])
    assert taken(root) is None
    assert f"warning: {content.parent} is damaged" in capsys.readouterr().err
    assert files(root) == []
    keep(root)
    assert taken(root) == CONTENT


def test_a_flipped_bit_anywhere_in_what_is_known_about_it_is_found(root: Path) -> None:
    keep(root)
    record = root / store.LAYERS / KEY / "entry.json"
    good = record.read_bytes()
    for place in range(len(good) - 1):  # but for the line's end
        keep(root)
        record.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert store.facts(root, store.LAYERS, KEY) is None, place
        assert (keys(root), taken(root)) == ([], None), place


@pytest.mark.parametrize("name", ["content", "entry.json"])
@pytest.mark.parametrize("left", [None, b""], ids=["gone", "empty"])
def test_what_a_power_failure_tore_is_found(root: Path, name: str, left: bytes | None) -> None:
    keep(root)
    path = root / store.LAYERS / KEY / name
    path.unlink() if left is None else path.write_bytes(left)
    assert taken(root) is None
    keep(root)
    assert taken(root) == CONTENT


def test_what_is_damaged_while_others_read_it_is_not_used_again(root: Path) -> None:
    keep(root)
    with store.reading(root, store.LAYERS, KEY) as path:
        assert path is not None
        path.write_bytes(b"damaged")
        assert [taken(root), taken(root)] == [None, None]
        assert keys(root) == []


# Killed at any moment.


def test_a_put_that_is_killed_at_any_moment_leaves_the_whole_entry_or_none(root: Path) -> None:
    moments = [moment for moment in everywhere(lambda: keep(root)) if whole_or_nothing(root)]
    assert len(moments) > 10


def test_an_eviction_that_is_killed_at_any_moment_leaves_the_whole_entry_or_none(root: Path) -> None:
    def evict() -> None:
        store.clear(root)

    keep(root)
    moments = []
    for moment in everywhere(evict):
        moments.append(whole_or_nothing(root))
        keep(root)
        assert taken(root) == CONTENT, moment
    assert len(moments) > 10


def test_a_drop_that_is_killed_at_any_moment_leaves_the_whole_entry_or_none(root: Path) -> None:
    keep(root)
    moments = []
    for moment in everywhere(lambda: store.drop(root, store.LAYERS, KEY)):
        moments.append(whole_or_nothing(root))
        keep(root)
        assert taken(root) == CONTENT, moment
    assert len(moments) > 3


def test_a_read_that_is_killed_at_any_moment_leaves_the_entry(root: Path) -> None:
    keep(root)
    moments = [moment for moment in everywhere(lambda: print(taken(root))) if keys(root) == [KEY]]
    assert moments == list(range(len(moments)))
    assert len(moments) > 3
    assert taken(root) == CONTENT


def whole_or_nothing(root: Path) -> bool:
    """What a kill left is the entry as it was put, or nothing; the next clean-up removes the rest."""
    there = bool(store.entries(root))
    assert taken(root) == (CONTENT if there else None)
    assert store.shrink(root, 2**40) == []
    assert bool(files(root)) == there
    store.clear(root)
    assert files(root) == []
    return True


# Several processes.


def test_builds_that_put_read_and_evict_at_once_never_see_half_an_entry(root: Path) -> None:
    until = time.monotonic() + 1.5
    seen = FORK.Value("i", 0)

    def read() -> None:
        while time.monotonic() < until:
            with store.reading(root, store.LAYERS, KEY) as path:
                if path is not None:
                    time.sleep(0.002)  # it is ours for as long as we take
                    assert path.read_bytes() == CONTENT
                    with seen.get_lock():
                        seen.value += 1

    def write() -> None:
        while time.monotonic() < until:
            keep(root)

    def evict() -> None:
        while time.monotonic() < until:
            store.clear(root)

    def in_threads(*work: Callable[[], None]) -> Callable[[], None]:
        return lambda: together(*work)

    assert ends(in_threads(read, read), in_threads(read, write), in_threads(write, evict)) == [0, 0, 0]
    assert seen.value > 10
    store.clear(root)
    assert files(root) == []


def test_of_two_that_put_at_once_the_first_stays(root: Path) -> None:
    contents = [bytes([number]) * 2**20 for number in range(4)]

    def put(number: int) -> Callable[[], None]:
        return lambda: keep(root, content=contents[number])

    assert ends(*map(put, range(4))) == [0] * 4
    assert taken(root) in contents
    assert len(files(root)) == 4


def test_one_at_a_time_makes_an_entry(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = root.parent / "made"

    def make() -> None:
        with store.making(root, store.LAYERS, KEY):
            if taken(root) is None:
                time.sleep(0.3)
                with made.open("ab") as sink:
                    sink.write(b".")
                keep(root)
            assert taken(root) == CONTENT

    root.parent.mkdir(parents=True)
    assert ends(lambda: together(make, make), lambda: together(make, make)) == [0, 0]
    assert made.read_bytes() == b"."
    said = [line for line in capfd.readouterr().err.splitlines() if "waiting for it" in line]
    assert said
    assert all(line.startswith("layers/abababababab in the cache is being made by ") for line in said)


def test_a_process_that_is_killed_while_making_an_entry_delays_no_other(root: Path) -> None:
    def die() -> None:
        with store.making(root, store.LAYERS, KEY):
            os.kill(os.getpid(), signal.SIGKILL)

    assert ends(die) == [-signal.SIGKILL]
    with store.making(root, store.LAYERS, KEY):
        keep(root)
    assert keys(root) == [KEY]


def test_a_lock_is_not_cleaned_up_under_who_holds_it(root: Path) -> None:
    with store.making(root, store.LAYERS, KEY):
        store.clear(root)
        assert [path.name for path in (root / store.LAYERS).iterdir()] == [f"{KEY}.lock"]
    store.clear(root)
    assert list((root / store.LAYERS).iterdir()) == []


# Limit.


def test_what_was_used_least_recently_goes_first(root: Path) -> None:
    for key, hours in (("a", 4), ("b", 3), ("c", 2), ("d", 1)):
        keep(root, key)
        used_ago(root, key, hours)
    assert taken(root, "a") == CONTENT
    assert keys(root) == ["b", "c", "d", "a"]
    assert [entry.key for entry in store.shrink(root, 2 * len(CONTENT))] == ["b", "c"]
    assert keys(root) == ["d", "a"]


def test_what_is_within_the_limit_stays(root: Path) -> None:
    for key in "ab":
        keep(root, key)
    assert store.shrink(root, 2 * len(CONTENT)) == []
    assert sorted(keys(root)) == ["a", "b"]


def test_what_is_being_read_is_not_evicted(root: Path) -> None:
    for key, hours in (("a", 2), ("b", 1)):
        keep(root, key)
        used_ago(root, key, hours)
    with usage.shared(root / store.LAYERS / "a" / "uses"):  # as a reader does that hashes it yet
        assert [entry.key for entry in store.shrink(root, len(CONTENT))] == ["b"]
    assert [entry.key for entry in store.clear(root)] == ["a"]


def test_compiled_modules_are_entries_too(root: Path) -> None:
    keep(root, "a", kind=store.MODULES)
    store.used(root, store.MODULES, "a")
    (entry,) = store.entries(root)
    assert (entry.kind, entry.hits) == ("modules", 1)
    assert store.clear(root) == [entry]


def test_other_files_in_the_cache_are_left_alone(root: Path) -> None:
    keep(root)
    for name in ("apt/debian/htop.deb", "locks/yum"):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()
    assert [entry.key for entry in store.clear(root)] == [KEY]
    assert files(root) == ["apt", "apt/debian", "apt/debian/htop.deb", "locks", "locks/yum"]


def test_the_limit_is_40_gib_until_another_is_set(root: Path) -> None:
    assert store.limit(root) == 40 * 2**30
    store.set_limit(root, "512MiB")
    assert store.limit(root) == 512 * 2**20


@pytest.mark.parametrize("text", ["20", "20GB", "0GiB", "-1GiB", "", "1.5TiB"])
def test_an_invalid_limit_is_refused_and_the_old_one_stays(root: Path, text: str) -> None:
    store.set_limit(root, "1GiB")
    with pytest.raises(UsageError, match="this is not a valid size") as caught:
        store.set_limit(root, text)
    assert "--limit 40GiB" in caught.value.remedy
    assert store.limit(root) == 2**30


@pytest.mark.parametrize("text", ["", "{", "[]", '{"limit": 5}', '{"size": "1GiB"}'])
def test_a_damaged_limit_ends_no_build(root: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    store.set_limit(root, "1GiB")
    (root / "limit.json").write_text(text)
    assert store.limit(root) == 40 * 2**30
    assert "./inv cache --limit" in capsys.readouterr().err
