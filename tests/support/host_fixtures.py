"""Variants and a mirror for the tests of what a build needs of its host."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.catalog import loader
from pipelines.catalog.variant import Variant

DEAD = "http://127.0.0.1:9/debian"  # the discard port: nothing listens


def variant(folder: Path, more: str = "", *, base: str = "distribution: debian, release: trixie") -> Variant:
    """The variant `plain`; `more` is added to it as YAML in flow style."""
    path = folder / "images.yaml"
    disk = "" if "disk:" in more else ", disk: {size: 4GiB}"
    path.write_text(f"version: 1\nimages:\n  plain: {{base: {{{base}}}{disk}{', ' * bool(more)}{more}}}\n")
    return loader.load(path).variants["plain"]


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """An HTTP server of the files below tmp_path/mirror, on loopback."""
    root = tmp_path / "mirror"
    for suite in ("trixie", "trixie-updates", "trixie-security"):
        (root / "dists" / suite).mkdir(parents=True)
        (root / "dists" / suite / "InRelease").touch()
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=root)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
