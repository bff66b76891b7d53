"""A small web server on loopback, which goes wrong where a test tells it to.

It serves bytes, files and whole folders, with byte ranges, ETags and If-Range, as the servers of images do. A fault is
a function that is called with the request before it is answered; what it sets there is done.
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

PIECE = 64 * 1024


@dataclass
class Request:
    """A request, and how it will be answered."""

    method: str
    path: str
    headers: dict[str, str]
    status: int | None = None  # answer with this and an error page
    content: bytes | None = None  # answer with this instead
    body_limit: int | None = None  # cut the connection after so many bytes of the body
    wait: float = 0.0  # seconds before anything is answered
    pace: float = 0.0  # seconds between two bytes of the body
    lengthless: bool = False  # say no Content-Length; the end of the connection is the end of the body
    location: str = ""  # redirect there


Fault = Callable[[Request], None]


def answer(status: int) -> Fault:
    """Refuse with a status."""
    return lambda request: setattr(request, "status", status)


def instead(content: bytes) -> Fault:
    """Serve something else."""
    return lambda request: setattr(request, "content", content)


def cut_after(count: int) -> Fault:
    """Cut the connection after so many bytes of the body."""
    return lambda request: setattr(request, "body_limit", count)


def wait(seconds: float) -> Fault:
    """Answer late."""
    return lambda request: setattr(request, "wait", seconds)


def trickle(pace: float) -> Fault:
    """Send byte after byte, so many seconds apart."""
    return lambda request: setattr(request, "pace", pace)


def redirect(location: str) -> Fault:
    """Send the client elsewhere."""
    return lambda request: setattr(request, "location", location)


def lengthless(request: Request) -> None:
    """Do not say how long the body is."""
    request.lengthless = True


@dataclass
class WebServer:
    """A running server. `seen` has each request's method, path and Range ("" for none), in order."""

    ranges: bool = True  # False: as a server that knows no byte ranges
    files: dict[str, bytes | Path] = field(default_factory=dict)  # by path; a folder's are below it
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    headers_seen: list[dict[str, str]] = field(default_factory=list)
    faults: list[tuple[str, Fault, bool]] = field(default_factory=list)
    date: str = ""  # what it says of the time, where it says anything
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_port}"

    def put(self, path: str, content: bytes | Path) -> str:
        """Serve `content` (bytes, a file, or a folder with all in it) at `path`; returns its URL."""
        self.files[path] = content
        return self.url + path

    def on(self, path: str, fault: Fault, *, always: bool = False) -> None:
        """For the next request (or for all) whose path matches this regular expression."""
        self.faults.append((path, fault, always))

    def got(self, path: str) -> list[str]:
        """The Range of each GET of a path."""
        return [asked for method, where, asked in self.seen if (method, where) == ("GET", path)]

    def start(self) -> None:
        """Serve, in threads."""
        server = self

        class Bound(_Handler):
            owner = server

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Serve no more."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def find(self, path: str) -> bytes | Path | None:
        """What is served at a path."""
        for prefix, content in self.files.items():
            if path == prefix and not (isinstance(content, Path) and content.is_dir()):
                return content
            if isinstance(content, Path) and content.is_dir() and path.startswith(prefix.rstrip("/") + "/"):
                inside = content / path[len(prefix.rstrip("/")) + 1 :]
                if inside.resolve().is_relative_to(content.resolve()) and inside.is_file():
                    return inside
        return None

    def apply(self, request: Request) -> None:
        """Call the faults that are meant for a request."""
        self.seen.append((request.method, request.path, request.headers.get("range", "")))
        self.headers_seen.append(request.headers)
        for entry in list(self.faults):
            path, fault, always = entry
            if re.search(path, request.path):
                if not always:
                    self.faults.remove(entry)
                fault(request)


@contextmanager
def serving(**options: bool) -> Iterator[WebServer]:
    """A server that stops at the end."""
    server = WebServer(**options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: WebServer

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, unquote(urlsplit(self.path).path), headers)
        self.owner.apply(request)
        time.sleep(request.wait)
        try:
            self._answer(request)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def _answer(self, request: Request) -> None:
        content = request.content if request.content is not None else self.owner.find(request.path)
        if request.location:
            self._head(302, {"Location": request.location, "Content-Length": "0"})
        elif request.status is not None or content is None:
            self._page(request.status or 404)
        else:
            self._file(request, content)

    def _page(self, status: int) -> None:
        page = f"<html>{status}</html>".encode()
        self._head(status, {"Content-Length": str(len(page))})
        if self.command == "GET":
            self.wfile.write(page)

    def _file(self, request: Request, content: bytes | Path) -> None:
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        etag = _etag(content)
        start, headers = 0, {"ETag": etag}
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if self.owner.ranges:
            headers["Accept-Ranges"] = "bytes"
            if asked and request.headers.get("if-range", etag) == etag:
                start = int(asked[1])
        if start >= size and start:
            self._head(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        if request.lengthless:
            headers["Connection"] = "close"
        else:
            headers["Content-Length"] = str(size - start)
        self._head(206 if start else 200, headers)
        if self.command == "GET":
            self._body(request, content, start)

    def _body(self, request: Request, content: bytes | Path, start: int) -> None:
        sent = 0
        for piece in _pieces(content, start, 1 if request.pace else PIECE):
            time.sleep(request.pace)
            part = piece if request.body_limit is None else piece[: request.body_limit - sent]
            self.wfile.write(part)
            sent += len(part)
            if request.body_limit is not None and sent >= request.body_limit:
                self.close_connection = True
                return

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        if self.owner.date:
            self.send_header("Date", self.owner.date)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _etag(content: bytes | Path) -> str:
    if isinstance(content, Path):
        found = content.stat()
        return f'"{found.st_size:x}-{found.st_mtime_ns:x}"'
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def _pieces(content: bytes | Path, start: int, size: int) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield from (content[at : at + size] for at in range(start, len(content), size))
        return
    with content.open("rb") as file:
        file.seek(start)
        while piece := file.read(size):
            yield piece
