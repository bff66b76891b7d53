"""Cached downloads are never removed while they are downloaded or used, and never incomplete."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from pipelines.cache import store
from pipelines.inputs.fetch import Wanted, fetch
from pipelines.inputs.http import Patience
from pipelines.util.errors import BuildError
from tests.support.cached import CONTENT, KEY, NOW, ends, everywhere, keep, keys, together, used_ago
from tests.support.fakes.web_server import WebServer, cut_after, serving, wait


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "builds" / ".cache"


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving() as running:
        running.put("/image.qcow2", CONTENT)
        yield running


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


def test_an_abandoned_partial_download_is_evicted(root: Path, server: WebServer) -> None:
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
