"""An HTTP proxy before a real service, which goes wrong where a test tells it to.

Requests pass through unchanged, bodies in pieces. A fault is a function that is called with the request before it is
passed on; what it raises is what happens to the connection.
"""

import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 64 * 1024


@dataclass
class Request:
    """A request on its way. What a fault sets here is done to it."""

    method: str
    path: str
    headers: dict[str, str]
    status: int | None = None  # answer with this, and pass nothing on
    location: str = ""  # where that answer redirects to
    body_limit: int | None = None  # pass on so many bytes, call `at_limit`, and cut the connection
    at_limit: Callable[[], None] = lambda: None
    drop: bool = False  # cut the connection, and pass nothing on
    corrupt: bool = False  # pass on as many bytes, and others
    drop_answer: bool = False  # pass everything on, and cut the connection instead of answering


Fault = Callable[[Request], None]


def answer(status: int) -> Fault:
    """Refuse with a status."""
    return lambda request: setattr(request, "status", status)


def redirect(request: Request) -> None:
    """Send the client here once more."""
    request.status, request.location = 307, request.path


def cut_after(count: int, then: Callable[[], None] = lambda: None) -> Fault:
    """Pass on so many bytes of the body, call `then`, and cut the connection."""

    def fault(request: Request) -> None:
        request.body_limit, request.at_limit = count, then

    return fault


@dataclass
class Proxy:
    """A running proxy. `seen` has every request, `passed_on` what the service got and answered."""

    upstream: tuple[str, int]
    seen: list[tuple[str, str]] = field(default_factory=list)
    passed_on: list[tuple[str, str, int]] = field(default_factory=list)
    faults: list[tuple[str, str, Fault, bool]] = field(default_factory=list)
    after_change: Callable[[], None] = lambda: None
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_port}"

    def on(self, method: str, path: str, fault: Fault, *, always: bool = False) -> None:
        """For the next request (or for all) whose method and path match these regular expressions."""
        self.faults.append((method, path, fault, always))

    def changes(self) -> list[tuple[str, str, int]]:
        """What was passed on beside reads."""
        return [entry for entry in self.passed_on if entry[0] != "GET"]

    def reset(self) -> None:
        """No faults, and nothing seen."""
        self.faults.clear()
        self.seen.clear()
        self.passed_on.clear()
        self.after_change = lambda: None

    def start(self) -> None:
        """Serve, in threads."""
        proxy = self

        class Bound(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Serve no more."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def apply(self, request: Request) -> None:
        """Call the faults that are meant for a request."""
        self.seen.append((request.method, request.path))
        for entry in list(self.faults):
            method, path, fault, always = entry
            if re.fullmatch(method, request.method) and re.search(path, request.path):
                if not always:
                    self.faults.remove(entry)
                fault(request)


class _Cut(Exception):
    """The connection ends here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Proxy

    def _handle(self) -> None:
        request = Request(method=self.command, path=self.path, headers=dict(self.headers))
        self.owner.apply(request)
        try:
            self._pass_on(request)
        except (_Cut, OSError, http.client.HTTPException):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # the names that http.server wants

    def _pass_on(self, request: Request) -> None:
        if request.drop:
            raise _Cut
        if request.status is not None:
            for _ in self._body():
                pass
            headers = [("Content-Type", "text/plain")]
            if request.location:
                headers.append(("Location", f"{self.owner.url}{request.location}"))
            self._answer(request.status, headers, b"the proxy refuses")
            return
        connection = http.client.HTTPConnection(*self.owner.upstream, timeout=60)
        try:
            chunked = "Transfer-Encoding" in request.headers
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            self._send(connection, request, chunked)
            response = connection.getresponse()
            body = response.read()
            self.owner.passed_on.append((request.method, request.path, response.status))
            if request.method != "GET":
                self.owner.after_change()
            if request.drop_answer:
                raise _Cut
            self._answer(response.status, response.getheaders(), body)
        finally:
            connection.close()

    def _send(self, connection: http.client.HTTPConnection, request: Request, chunked: bool) -> None:
        sent = 0
        for piece in self._body():
            part = piece if request.body_limit is None else piece[: request.body_limit - sent]
            if request.corrupt:
                part = part[:-1] + bytes([part[-1] ^ 1])
            if part:
                connection.send(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            sent += len(part)
            if request.body_limit is not None and sent >= request.body_limit:
                request.at_limit()
                raise _Cut
        if chunked:
            connection.send(b"0\r\n\r\n")

    def _body(self) -> Iterator[bytes]:
        if "Transfer-Encoding" not in self.headers:
            left = int(self.headers.get("Content-Length") or 0)
            while left:
                piece = self.rfile.read(min(PIECE, left))
                left -= len(piece)
                yield piece
            return
        while size := int(self.rfile.readline(), 16):
            while size:
                piece = self.rfile.read(min(PIECE, size))
                size -= len(piece)
                yield piece
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
