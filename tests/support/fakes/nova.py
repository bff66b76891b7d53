"""The one question of Nova's that is asked, answered on loopback, page by page."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class Nova:
    """A running stand-in. `servers` maps a server's ID → its image, `others` the same for other projects' servers."""

    url: str = ""
    servers: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    administrator: bool = True  # whether this user may ask for all projects
    status: int = 200
    page: int = 2

    def answer(self, path: str) -> tuple[int, object]:
        """As https://docs.openstack.org/api-ref/compute/#list-servers-detailed says."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        everybody = asked.get("all_tenants") == "true"
        if self.status != 200 or urlsplit(path).path != "/v2.1/servers/detail":
            return (self.status if self.status != 200 else 404), {}
        if everybody and not self.administrator:
            return 403, {"forbidden": {"message": "Policy doesn't allow it", "code": 403}}
        seen = self.servers | (self.others if everybody else {})
        found = sorted(server for server, image in seen.items() if image == asked["image"])
        rest = [server for server in found if server > asked.get("marker", "")]
        page = {"servers": [{"id": server} for server in rest[: self.page]]}
        more = {"servers_links": [{"rel": "next", "href": "…"}]} if len(rest) > self.page else {}
        return 200, page | more


@contextmanager
def running() -> Iterator[Nova]:
    """A stand-in that stops at the end."""
    nova = Nova()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = nova.answer(self.path)
            text = json.dumps(body).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    nova.url = f"http://127.0.0.1:{server.server_port}/v2.1"
    try:
        yield nova
    finally:
        server.shutdown()
        server.server_close()
