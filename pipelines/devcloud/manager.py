"""Life cycle of the local cloud: installed, started, found running, stopped.

It is a real Keystone and a real Glance, for the demo and the tests: releases from PyPI by a lock file, in an
environment of their own; SQLite and a file store; free ports on loopback, which stay the same from one `up` to the next
while no other program takes them. Everything is below one folder:

    venv/  clouds.yaml  settings.json  keystone/  glance/  log  .lock (held by the server for as long as it lives)
"""

import contextlib
import hashlib
import http.client
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.devcloud import config
from pipelines.util import console, locks, process, virtualenv
from pipelines.util.errors import CloudError, HostError

ROOT = Path(__file__).resolve().parent.parent.parent
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
BUILD_REQUIREMENTS = Path(__file__).with_name("build-requirements.txt")
SERVER = Path(__file__).with_name("server.py")

INSTALL_SECONDS = 1800.0
READY_SECONDS = 60.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalCloud:
    """A cloud that runs. `clouds_file` has its entries (`local` and more); `log` is what both services print."""

    root: Path
    keystone_url: str
    glance_url: str
    clouds_file: Path
    log: Path
    started: bool


def up(
    root: Path, *, venv: Path | None = None, options: Mapping[str, str] | None = None, tied: bool = False
) -> LocalCloud:
    """Start the cloud below `root`, or find it running; ready for use when this returns.

    `venv` is where its programs are installed (default: below `root`). `options` are added to Glance's [DEFAULT].
    A `tied` cloud ends with the process that started it. HostError when it does not start.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    _require_ours(root)
    root = root.resolve()
    with _alone(root):
        python = install(venv or root / "venv")
        running = _running(root)
        if running is not None:
            return running
        return _start(root, python, options or {}, tied)


def down(root: Path) -> bool:
    """Stop the cloud below `root`; its data stays for the next `up`. False when it was not running.

    Only the holder of the server's lock is signalled: its process id is in the lock, which it holds while it lives.
    """
    if not root.is_dir():
        return False
    _require_ours(root)
    lock = root / ".lock"
    with _alone(root):
        for number in (signal.SIGTERM, signal.SIGKILL):
            holder = locks.holder(lock)
            if holder is None:
                return number == signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(holder), number)
            _wait_until_free(lock)
    if locks.holder(lock) is not None:
        raise HostError(f"the local cloud's process {holder} does not stop", remedy=f"Stop it: kill -9 {holder}")
    return True


def env_lines(root: Path) -> list[str]:
    """`export OS_…` lines for the cloud's administrator, for `eval` in a shell; CloudError when it is not running."""
    if root.is_dir():
        _require_ours(root)
    cloud = _running(root.resolve())
    if cloud is None:
        raise CloudError("the local cloud is not running", remedy="Run `./inv cloud.up` first.")
    settings = config.load(cloud.root)
    assert settings is not None
    return config.environment(settings)


def clouds_file(root: Path) -> Path:
    """The clouds.yaml of the cloud below `root`; it exists once the cloud was up."""
    return root / "clouds.yaml"


def install(venv: Path) -> Path:
    """Install Keystone and Glance unless they are current (under a minute); the environment's interpreter."""
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in (REQUIREMENTS, BUILD_REQUIREMENTS))).hexdigest()
    stamp, python = venv / virtualenv.STAMP, venv / "bin" / "python"
    with locks.hold(
        venv.parent / f".{venv.name}.lock", "{holder} is installing Keystone and Glance", wait=INSTALL_SECONDS
    ):
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            return python
        with console.ticker("local cloud") as ticker:
            ticker.stage("installing Keystone and Glance (once, about a minute)")
            virtualenv.install(venv, [REQUIREMENTS], build_lock=BUILD_REQUIREMENTS)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def _require_ours(root: Path) -> None:
    """HostError for another user's cloud, whose folder is closed to us."""
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        try:
            owner = root.owner()
        except KeyError:  # in a container, users of the host may have no names
            owner = f"user {root.stat().st_uid}"
        raise HostError(f"the local cloud in {root} is {owner}'s", remedy=f"Run the same command as {owner}.")


def _alone(root: Path) -> contextlib.AbstractContextManager[None]:
    return locks.hold(root / ".up.lock", "the local cloud is being started or stopped by {holder}", wait=READY_SECONDS)


def _start(root: Path, python: Path, options: Mapping[str, str], tied: bool) -> LocalCloud:
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context((root / ".lock").open("a+", encoding="utf-8"))
        if not locks.take(lock, ""):
            raise HostError("the local cloud is still stopping", remedy="Run the command again in a moment.")
        saved = config.load(root)
        before = (saved.keystone_url, saved.glance_url) if saved else (None, None)
        listeners = [stack.enter_context(_listen(url)) for url in before]
        urls = [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
        settings = config.write(root, saved, (urls[0], urls[1]), venv=python.parent.parent, options=options)
        fds = [listener.fileno() for listener in listeners] + [lock.fileno()]
        names = ("--keystone-fd", "--glance-fd", "--lock-fd")
        # -I: the modules beside the server are named like those it has to find in its own environment.
        argv = [
            str(python),
            "-I",
            str(SERVER),
            str(root),
            *(f"{name}={fd}" for name, fd in zip(names, fds, strict=True)),
        ]
        if tied:
            argv.append(f"--parent={os.getpid()}")
        (root / "log").write_text("", encoding="utf-8")
        child = process.start(argv, log=root / "log", pass_fds=fds)
    # The sockets and the lock are the server's alone from here on: when it dies, connections are refused, not held.
    cloud = _cloud(root, settings, started=True)
    try:
        _wait_until_ready(cloud)
    except BaseException:
        process.stop(child)
        raise
    return cloud


def _running(root: Path) -> LocalCloud | None:
    if locks.holder(root / ".lock") is None:
        return None
    settings = config.load(root)
    assert settings is not None  # written before the server starts
    cloud = _cloud(root, settings, started=False)
    _wait_until_ready(cloud)
    return cloud


def _cloud(root: Path, settings: config.Settings, *, started: bool) -> LocalCloud:
    return LocalCloud(
        root=root,
        keystone_url=settings.keystone_url,
        glance_url=settings.glance_url,
        clouds_file=clouds_file(root),
        log=root / "log",
        started=started,
    )


def _wait_until_ready(cloud: LocalCloud) -> None:
    """Ask each service once: its socket listens from the start, so the answer comes when it is ready, or never."""
    for url, path in ((cloud.keystone_url, "/v3"), (cloud.glance_url, "/versions")):
        host, _, port = url.removeprefix("http://").partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=READY_SECONDS)
        try:
            connection.request("GET", path)
            status = connection.getresponse().status
        except OSError as error:
            output = "\n".join(cloud.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise HostError(
                f"the local cloud does not answer: {error}\n{output}", remedy=f"Read {cloud.log}."
            ) from error
        finally:
            connection.close()
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise HostError(f"{url}{path} answers {status}", remedy=f"Read {cloud.log}.")


def _wait_until_free(lock: Path) -> None:
    ends = time.monotonic() + STOP_SECONDS
    while locks.holder(lock) is not None and time.monotonic() < ends:
        time.sleep(0.05)


def _listen(url: str | None) -> socket.socket:
    """A listening socket on loopback: at the URL's port when it is free, at any free port otherwise."""
    for port in ([int(url.rpartition(":")[2])] if url else []) + [0]:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
        except OSError:
            listener.close()
        else:
            return listener
    raise HostError("no port on 127.0.0.1 is free", remedy="Stop servers that are not needed.")
