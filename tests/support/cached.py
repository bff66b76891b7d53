"""A cache, filled and used as builds do it, by several processes and by some that are killed."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from pipelines.cache import store

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CONTENT = b"".join(sha256(bytes([number])).digest() for number in range(256))  # 8 KiB
KEY = "ab" * 32
# What Python reports before it does anything to a file.
TOUCHES = ("open", "os.", "shutil.", "tempfile.", "fcntl.")
FORK = multiprocessing.get_context("fork")


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
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # an earlier test in this process may have run a task of ours
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
