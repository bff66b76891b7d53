"""How do stand-ins reach the programs under test? Over HTTP on loopback.

Files below a folder are served as they are; what a stand-in archive has not itself is a real package of Debian, and
lies on this machine's mirror: apt is sent there.
"""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # apt asks for many files on one connection

    def __init__(self, *arguments: object, mirror: str, directory: Path) -> None:
        self._mirror = mirror
        super().__init__(*arguments, directory=str(directory))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        archive, pool, package = self.path.partition("/pool/")
        if archive == "/ubuntu" and pool and not Path(self.translate_path(self.path)).exists():
            self.send_response(302)
            self.send_header("Location", f"{self._mirror}{pool}{package}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serve(root: Path, mirror: str) -> Iterator[str]:
    """Serve a folder on loopback; yields its URL."""
    handler = functools.partial(_Handler, mirror=mirror, directory=root)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
