"""Program that sets up Keystone and Glance where needed, and serves both until it is stopped.

devcloud.manager starts it with the interpreter of the cloud's own environment, so it is a file of its own and imports
nothing of ours. It gets its listening sockets and the lock already open (as file descriptors): no other process can
take a port in between, and the lock is held exactly as long as this process lives. The two services are forks that the
kernel ends with their parent; when one of them ends, the other is ended too.
"""

import argparse
import ctypes
import json
import os
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> int:
    """Serve both until SIGTERM (exit code 0), or until one of them ends (1)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--keystone-fd", type=int, required=True)
    parser.add_argument("--glance-fd", type=int, required=True)
    parser.add_argument("--lock-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, help="end when this process, our parent, ends")
    options = parser.parse_args()
    sys.argv = ["devcloud"]  # both services parse the command line of the process they are in
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.pwrite(options.lock_fd, str(os.getpid()).encode(), 0)  # the process that `down` stops
    if options.parent:
        _end_with_parent(options.parent)
    services = {
        _fork(lambda: keystone(options.root, options.keystone_fd), close=options.lock_fd): "keystone",
        _fork(lambda: glance(options.root, options.glance_fd), close=options.lock_fd): "glance",
    }
    (options.root / "services.json").write_text(json.dumps({name: pid for pid, name in services.items()}))
    try:
        pid, status = os.wait()
        print(f"{services.pop(pid)} ended with status {os.waitstatus_to_exitcode(status)}", file=sys.stderr)
        return 1
    finally:
        for pid in services:
            os.kill(pid, signal.SIGKILL)  # SQLite and the file store survive this; there is nothing else to save
        for pid in services:
            os.waitpid(pid, 0)  # the ports are free when the lock is


def keystone(root: Path, fd: int) -> None:
    """Set Keystone up, the accounts included, and serve it."""
    os.environ["OS_KEYSTONE_CONFIG_DIR"] = str(root / "keystone")
    from keystone.cmd import cli  # noqa: PLC0415  # imported in the fork: the two share one global configuration

    _begin_immediately()
    text = (root / "settings.json").read_text()
    settings, ready = json.loads(text), root / "keystone" / "ready"
    stale = not ready.exists() or ready.read_text() != text
    if stale:
        config = f"--config-file={root / 'keystone' / 'keystone.conf'}"
        for command in _keystone_commands(settings):
            _in_fork(lambda command=command: cli.main(["keystone-manage", config, *command], None))  # type: ignore[misc]
    from keystone.wsgi.api import application  # noqa: PLC0415

    if stale:
        _register(settings)
        ready.write_text(text)
    _serve(application, fd)


def glance(root: Path, fd: int) -> None:
    """Set Glance up and serve it."""
    os.environ["OS_GLANCE_CONFIG_DIR"] = str(root / "glance")
    from glance.cmd import manage  # noqa: PLC0415

    _begin_immediately()
    if not (root / "glance" / "ready").exists():
        config = f"--config-file={root / 'glance' / 'glance-api.conf'}"
        for command in ("db_sync", "db_load_metadefs"):
            _in_fork(lambda command=command: _glance_manage(manage, [config, command]))  # type: ignore[misc]
        (root / "glance" / "ready").touch()
    from glance.wsgi.api import application  # noqa: PLC0415

    _serve(application, fd)


def _glance_manage(manage: Any, arguments: list[str]) -> None:
    sys.argv = ["glance-manage", *arguments]
    if manage.main():
        sys.exit(1)


def _keystone_commands(settings: Mapping[str, Any]) -> list[list[str]]:
    """What keystone-manage has to do; bootstrap also moves the endpoint when the port is another one."""
    bootstrap = ["bootstrap", "--bootstrap-password", settings["password"], "--bootstrap-region-id", "RegionOne"]
    for kind in ("public", "internal", "admin"):
        bootstrap += [f"--bootstrap-{kind}-url", f"{settings['keystone_url']}/v3"]
    owner = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
    return [["db_sync"], ["fernet_setup", *owner], ["credential_setup", *owner], bootstrap]


def _register(settings: Mapping[str, Any]) -> None:
    """Glance's endpoint and the accounts. What exists is left alone, a moved endpoint excepted."""
    from keystone.common import provider_api  # noqa: PLC0415
    from keystone.common.driver_hints import Hints  # noqa: PLC0415

    api = provider_api.ProviderAPIs
    roles = {role["name"]: role["id"] for role in api.role_api.list_roles(Hints())}
    projects = {project["name"]: project["id"] for project in api.resource_api.list_projects(Hints())}
    users = {user["name"]: user["id"] for user in api.identity_api.list_users("default")}
    for account in settings["accounts"]:
        name, project, role = account["user"], account["project"], account["role"]
        if project not in projects:
            new = {"id": uuid.uuid4().hex, "name": project, "domain_id": "default", "enabled": True, "description": ""}
            projects[project] = api.resource_api.create_project(new["id"], new)["id"]
        if name not in users:
            new = {"name": name, "domain_id": "default", "enabled": True, "password": settings["password"]}
            users[name] = api.identity_api.create_user(new)["id"]
        if roles[role] not in api.assignment_api.get_roles_for_user_and_project(users[name], projects[project]):
            api.assignment_api.add_role_to_user_and_project(users[name], projects[project], roles[role])
    _register_endpoint(api, settings["glance_url"])


def _register_endpoint(api: Any, url: str) -> None:
    from keystone.common.driver_hints import Hints  # noqa: PLC0415

    service = next((entry for entry in api.catalog_api.list_services(Hints()) if entry["type"] == "image"), None)
    if service is None:
        new = {"id": uuid.uuid4().hex, "name": "glance", "type": "image", "enabled": True}
        service = api.catalog_api.create_service(new["id"], new)
    known = {entry["interface"]: entry for entry in api.catalog_api.list_endpoints(Hints())
             if entry["service_id"] == service["id"]}  # fmt: skip
    for interface in ("public", "internal", "admin"):
        if interface in known:
            api.catalog_api.update_endpoint(known[interface]["id"], {**known[interface], "url": url})
        else:
            new = {"id": uuid.uuid4().hex, "interface": interface, "url": url, "enabled": True}
            api.catalog_api.create_endpoint(new["id"], {**new, "service_id": service["id"], "region_id": "RegionOne"})


def _serve(application: Any, fd: int) -> None:
    """Werkzeug's threaded server, on a socket that is bound already. HTTP/1.1, or chunked uploads would not work."""
    from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: PLC0415

    class Handler(WSGIRequestHandler):  # type: ignore[misc]  # no types
        protocol_version = "HTTP/1.1"
        timeout = 60  # an idle connection does not keep its thread for ever

    host, port = socket.socket(fileno=os.dup(fd)).getsockname()
    make_server(host, port, application, threaded=True, request_handler=Handler, fd=fd).serve_forever()


def _begin_immediately() -> None:
    """Take SQLite's write lock where a transaction begins.

    oslo.db emits a plain BEGIN, and two threads that read before they write then fail with "database is locked".
    """
    from sqlalchemy import event  # noqa: PLC0415
    from sqlalchemy.engine import Engine  # noqa: PLC0415

    @event.listens_for(Engine, "before_cursor_execute", retval=True)  # type: ignore[untyped-decorator]
    def immediate(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return ("BEGIN IMMEDIATE" if statement == "BEGIN" else statement), parameters


def _fork(work: Callable[[], None], close: int | None = None) -> int:
    """Run `work` in a child that the kernel ends with this process; its process id."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _end_with_parent(parent)
        if close is not None:
            os.close(close)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _in_fork(work: Callable[[], None]) -> None:
    """Run a set-up command in a fork: its imports are paid for already, and its global state ends with it."""
    _, status = os.waitpid(_fork(work), 0)
    if status:
        sys.exit("a set-up command failed; its output is above")


def _end_with_parent(parent: int) -> None:
    """SIGKILL for this process when its parent ends (SIGTERM at once when that has happened already)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
