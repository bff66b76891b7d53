"""The cache stays sound, whatever else uses it at the same time and wherever a process is killed."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from pipelines.cache import store, usage
from pipelines.inputs.fetch import Wanted, fetch
from pipelines.inputs.http import Patience
from pipelines.reports import cache
from pipelines.util.errors import BuildError, UsageError
from tests.support.command_line import inv
from tests.support.fakes.web_server import WebServer, cut_after, serving, wait

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CONTENT = b"".join(sha256(bytes([number])).digest() for number in range(256))  # 8 KiB
KEY = "ab" * 32
# What Python reports before it does anything to a file.
TOUCHES = ("open", "os.", "shutil.", "tempfile.", "fcntl.")
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "builds" / ".cache"


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving() as running:
        running.put("/image.qcow2", CONTENT)
        yield running


def keep(root: Path, key: str = KEY, content: bytes = CONTENT, kind: str = store.LAYERS) -> None:
    """Put something in, as a build does."""
    finished = root.parent / f"finished-{os.getpid()}-{threading.get_ident()}"
    finished.parent.mkdir(parents=True, exist_ok=True)
    finished.write_bytes(content)
    store.put(root, kind, key, finished, about=f"about {key}", facts={"archive": "1"}, now=NOW)


def taken(root: Path, key: str = KEY) -> bytes | None:
    """What a build gets."""
    with store.reading(root, store.LAYERS, key) as path:
        return None if path is None else path.read_bytes()


def keys(root: Path) -> list[str]:
    return [entry.key for entry in store.entries(root)]


def files(root: Path) -> list[str]:
    """All that is in the cache, but the locks."""
    names = (str(path.relative_to(root)) for path in root.rglob("*") if path.suffix != ".lock")
    return sorted(name for name in names if name not in {*store.KINDS, "downloads"})


def used_ago(root: Path, key: str, hours: int) -> None:
    then = time.time() - 3600 * hours
    os.utime(root / store.LAYERS / key / "uses", (then, then))


def ends(*work: Callable[[], None]) -> list[int | None]:
    """How processes that do this, all at once, end."""
    running = [FORK.Process(target=each) for each in work]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    return [process.exitcode for process in running]


def killed_at(number: int, work: Callable[[], None]) -> bool:
    """Whether a process that does this was killed before it touched a file for the `number`th time."""
    left = [number]

    def count(event: str, _: object) -> None:
        if event.startswith(TOUCHES) and event != "os.kill":
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def die() -> None:
        sys.addaudithook(count)
        work()
        os.kill(os.getpid(), signal.SIGTERM)  # and not by way of exit handlers, which touch files as well

    (how,) = ends(die)
    assert how in {-signal.SIGKILL, -signal.SIGTERM}
    return how == -signal.SIGKILL


def everywhere(work: Callable[[], None]) -> Iterator[int]:
    """Kill a process that does this at each moment at which it touches a file, one after the other."""
    number = 0
    while killed_at(number, work):
        yield number
        number += 1


# What is kept.


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


def test_whoever_was_first_keeps_the_place(root: Path) -> None:
    keep(root)
    keep(root, content=b"other")
    assert taken(root) == CONTENT
    assert files(root) == [f"layers/{KEY}", *(f"layers/{KEY}/{name}" for name in ("content", "entry.json", "uses"))]


def test_what_was_dropped_is_gone_and_can_be_made_anew(root: Path) -> None:
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


def test_what_cannot_be_kept_leaves_nothing_behind(root: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        store.put(root, store.LAYERS, KEY, root / "nothing", about="", facts={}, now=NOW)
    assert files(root) == []


# What is damaged.


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


def test_what_is_damaged_while_others_read_it_is_not_given_to_anybody_again(root: Path) -> None:
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


# Several at once.


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


def test_of_two_that_put_at_once_the_first_is_kept(root: Path) -> None:
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


def test_who_was_killed_while_making_an_entry_holds_up_nobody(root: Path) -> None:
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


def together(*work: Callable[[], None]) -> None:
    """Do these in threads, all at once; what fails in one fails here."""
    failed: list[BaseException] = []

    def caught(each: Callable[[], None]) -> None:
        try:
            each()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=caught, args=[each]) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


# How much is kept.


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
def test_a_limit_that_is_no_size_is_refused_and_the_old_one_stays(root: Path, text: str) -> None:
    store.set_limit(root, "1GiB")
    with pytest.raises(UsageError, match="this is not a valid size") as caught:
        store.set_limit(root, text)
    assert "--limit 40GiB" in caught.value.remedy
    assert store.limit(root) == 2**30


@pytest.mark.parametrize("text", ["", "{", "[]", '{"limit": 5}', '{"size": "1GiB"}'])
def test_a_limit_that_somebody_damaged_ends_no_build(root: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    store.set_limit(root, "1GiB")
    (root / "limit.json").write_text(text)
    assert store.limit(root) == 40 * 2**30
    assert "./inv cache --limit" in capsys.readouterr().err


# Downloads.


def download(server: WebServer, root: Path, held: ExitStack | None = None) -> Path:
    wanted = Wanted(name="image.qcow2", url=f"{server.url}/image.qcow2", sha256=sha256(CONTENT).hexdigest())
    return fetch(wanted, root / "downloads", Patience(tries=1), held=held).path


def test_downloads_are_listed_and_counted_when_a_build_takes_them(root: Path, server: WebServer) -> None:
    download(server, root)
    (entry,) = store.entries(root)
    assert (entry.kind, entry.about, entry.size, entry.hits) == ("downloads", "image.qcow2", len(CONTENT), 0)
    path = download(server, root)
    (entry,) = store.entries(root)
    assert (entry.key, entry.hits) == (path.parent.name, 1)


def test_a_download_of_an_earlier_version_is_as_old_as_its_file(root: Path) -> None:
    path = root / "downloads" / KEY / "image.qcow2"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    (entry,) = store.entries(root)
    assert (entry.created_at, entry.used_at, entry.hits) == (NOW, NOW, 0)
    assert store.clear(root) == [entry]


def test_downloads_and_layers_are_evicted_by_the_same_rule(root: Path, server: WebServer) -> None:
    for key, hours in (("a", 2), ("b", 1)):
        keep(root, key)
        used_ago(root, key, hours)
    path = download(server, root)
    then = time.time() - 5400
    os.utime(root / "downloads" / f"{path.parent.name}.uses", (then, then))
    evicted = store.shrink(root, len(CONTENT))
    assert [entry.kind for entry in evicted] == ["layers", "downloads"]
    assert (keys(root), path.exists()) == (["b"], False)
    assert download(server, root).read_bytes() == CONTENT


def test_a_download_that_a_build_uses_is_not_evicted(root: Path, server: WebServer) -> None:
    with ExitStack() as held:
        path = download(server, root, held)
        assert store.clear(root) == []
        assert path.read_bytes() == CONTENT
    assert len(store.clear(root)) == 1
    assert list((root / "downloads").rglob("*.uses")) == []


def test_a_partial_download_in_progress_is_not_evicted(root: Path, server: WebServer) -> None:
    part = root / "downloads" / f"{sha256(CONTENT).hexdigest()}.part"
    cut_off(server, root)
    server.on("/image", wait(0.4))
    thread = threading.Thread(target=lambda: download(server, root))
    thread.start()
    while len(server.got("/image.qcow2")) < 2:
        time.sleep(0.01)
    assert (store.clear(root), part.exists()) == ([], True)
    thread.join()
    assert server.got("/image.qcow2")[1] == "bytes=1000-"
    assert (root / "downloads" / part.stem / "image.qcow2").read_bytes() == CONTENT


def test_a_partial_download_that_nobody_goes_on_with_is_evicted(root: Path, server: WebServer) -> None:
    cut_off(server, root)
    (entry,) = store.entries(root)
    assert (entry.about, entry.size) == ("a download in progress, or interrupted", 1000)
    assert store.clear(root) == [entry]
    assert store.clear(root) == []
    assert list((root / "downloads").iterdir()) == []


def test_an_eviction_of_a_download_that_is_killed_at_any_moment_leaves_all_of_it_or_nothing(
    root: Path, server: WebServer
) -> None:
    def evict() -> None:
        store.clear(root)

    download(server, root)
    moments = []
    for moment in everywhere(evict):
        moments.append(moment)
        there = bool(store.entries(root))
        store.shrink(root, 2**40)
        assert (root / "downloads" / sha256(CONTENT).hexdigest()).exists() == there
        assert download(server, root).read_bytes() == CONTENT
    assert len(moments) > 10


def test_builds_that_download_and_evict_at_once_have_their_file(root: Path, server: WebServer) -> None:
    until = time.monotonic() + 1.0

    def use() -> None:
        while time.monotonic() < until:
            with ExitStack() as held:
                path = download(server, root, held)
                time.sleep(0.002)
                assert path.read_bytes() == CONTENT

    def evict() -> None:
        while time.monotonic() < until:
            store.clear(root)

    assert ends(use, lambda: together(use, evict), evict) == [0, 0, 0]


def cut_off(server: WebServer, root: Path) -> None:
    server.on("/image", cut_after(1000))
    with pytest.raises(BuildError):
        download(server, root)


# What the operator sees.


def test_the_table_has_size_age_and_hits_and_a_total_with_the_limit(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(root, "a")
    keep(root, "b", b"x" * 1536, store.MODULES)
    taken(root, "a")
    for place, hours in ((root / store.LAYERS / "a", 67), (root / store.MODULES / "b", 68)):
        then = (NOW + timedelta(hours=hours)).timestamp()
        os.utime(place / "uses", (then, then))
    cache.show(root, None, NOW + timedelta(days=3), clear=False, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "Cache, least recently used first",
        "  kind     what       size               age  last used  hits",
        "  layers   about a    8 KiB              3d   5h ago     1",
        "  modules  about b    1.5 KiB            3d   -          0",
        "  total    2 entries  9.5 KiB of 40 GiB",
    ]


def test_clearing_says_what_went(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(root)
    cache.show(root, None, NOW, clear=True, as_json=False)
    said, noted = capsys.readouterr()
    assert noted == "evicted: 1 entry, 8 KiB\n"
    assert "0 entries  0 bytes of 40 GiB" in said


def test_inv_cache_prints_json_alone_and_keeps_the_limit(root: Path) -> None:
    keep(root)
    common = ("cache", "--builds", root.parent, "--json")
    assert inv(*common, "--limit", "20GiB").returncode == 0
    result = inv(*common, "--clear")
    found = json.loads(result.stdout)
    assert (found["size"], found["limit"], found["entries"]) == (0, 20 * 2**30, [])
    (evicted,) = found["evicted"]
    assert evicted == evicted | {"kind": "layers", "key": KEY, "size": len(CONTENT), "hits": 0, "used_at": None}


def test_inv_cache_with_a_limit_that_is_no_size_is_exit_1_with_the_remedy(root: Path) -> None:
    result = inv("cache", "--builds", root.parent, "--limit", "20 gigs")
    assert (result.returncode, result.stdout) == (1, "")
    assert "--limit 40GiB" in result.stderr
