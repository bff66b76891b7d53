"""Speed of an image's upload to Glance.

To a real one on loopback: as our release sends it, comparing digests on the way, and by a bare HTTP PUT of the same
file with curl; in turns, since disks and machines are noisy.
"""

import json
import statistics
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

from benchmarks.site import Site, Taken, environment
from pipelines.artifacts.store import Build
from pipelines.build.recipe import Command
from pipelines.catalog.variant import Variant
from pipelines.devcloud import config, manager
from pipelines.glance import client
from pipelines.release import payload

TURNS = 3
_SECONDS = 60.0


def compare(site: Site, variant: Variant) -> Iterator[Taken]:
    """Medians of a few turns, in bytes per second."""
    build = site.finished(variant)
    size = build.image().stat().st_size
    ours, theirs = [], []
    root = site.fresh(variant, "cloud")
    running = manager.up(root, venv=manager.ROOT / ".cloud" / "venv", tied=True)
    try:
        cloud = client.connect("local", file=running.clouds_file)
        build.image().read_bytes()  # the first to read it would be the slower one
        for _ in range(TURNS):
            ours.append(_ours(cloud, build))
            theirs.append(_put(site, root, build.image()))
    finally:
        manager.down(root)
    yield Taken(quantity="upload", value=size / statistics.median(ours))
    yield Taken(quantity="upload-put", value=size / statistics.median(theirs))


def _ours(cloud: client.Cloud, build: Build) -> float:
    """Seconds of our transfer alone."""
    image_id = str(uuid.uuid4())
    cloud.create(image_id, name="ours", disk_format="qcow2", min_disk=1, min_ram=0, tags=(), properties={})
    started = time.monotonic()
    sent = payload.canonical(build, build.manifest())
    cloud.put_data(image_id, lambda: sent.chunks(lambda _: None), sent.artifact.size)
    seconds = time.monotonic() - started
    cloud.delete(image_id)
    return seconds


def _put(site: Site, root: Path, image: Path) -> float:
    """Seconds of curl's PUT alone."""
    settings = config.load(root)
    assert settings is not None  # the cloud runs
    token = _token(settings)
    image_id = str(uuid.uuid4())
    record = {"id": image_id, "name": "bare", "disk_format": "qcow2", "container_format": "bare"}
    _call("POST", f"{settings.glance_url}/v2/images", token, record)
    header = root / "token"  # programs' arguments can be read by everybody
    header.write_text(f"X-Auth-Token: {token}\n", encoding="utf-8")
    argv = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*"]
    argv += ["--header", f"@{header}", "--header", "Content-Type: application/octet-stream", "--header", "Expect:"]
    argv += ["--upload-file", str(image), f"{settings.glance_url}/v2/images/{image_id}/file"]
    seconds = site.run(Command(argv=tuple(argv), environment=environment()), "bare PUT")
    _call("DELETE", f"{settings.glance_url}/v2/images/{image_id}", token)
    return seconds


def _token(settings: config.Settings) -> str:
    user = {"name": "admin", "domain": {"id": "default"}, "password": settings.password}
    scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
    return _call("POST", f"{settings.keystone_url}/v3/auth/tokens", "", body)["X-Subject-Token"]


def _call(method: str, url: str, token: str, body: object = None) -> dict[str, str]:
    """Ask a service of the local cloud; the answer's headers."""
    headers = {"Content-Type": "application/json"} | ({"X-Auth-Token": token} if token else {})
    content = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=content, headers=headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_SECONDS) as answer:
        return dict(answer.headers)
