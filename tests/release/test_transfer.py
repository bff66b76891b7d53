"""Data on every way into a real Glance: plain uploads, imports, downloads of its own, and several stores."""

import dataclasses
import hashlib
import io
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.artifacts.store import Build
from pipelines.catalog.clouds import Delivery
from pipelines.catalog.variant import Variant
from pipelines.glance import client, interop_import
from pipelines.glance import image as glance_image
from pipelines.keystone.errors import ServiceError
from pipelines.release import image_metadata, payload, transfer
from pipelines.release.payload import Payload
from pipelines.release.transfer import Route
from pipelines.util import locks
from pipelines.util.errors import CloudError, HostError, VerifyError
from tests.support.fakes.proxy import Proxy, answer
from tests.support.fakes.web_server import WebServer, serving

MakeBuild = Callable[..., Build]


@pytest.fixture
def build(variant: Variant, make_build: MakeBuild) -> Build:
    """A build that no cloud has."""
    return make_build(variant)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    """A web server with the builds' folder at /builds."""
    with serving() as server:
        server.put("/builds", tmp_path / "builds")
        yield server


def record(cloud: client.Cloud, build: Build, disk_format: str = "qcow2") -> str:
    """An image without data, for a build."""
    made, image_id = build.manifest(), str(uuid.uuid4())
    about = {image_metadata.BUILD_ID: made.build_id, image_metadata.SHA256: made.artifact.sha256}
    cloud.create(image_id, name="x", disk_format=disk_format, min_disk=1, min_ram=1, tags=[], properties=about)
    return image_id


def delivered(cloud: client.Cloud, build: Build, delivery: Delivery) -> client.Image:
    """Deliver a build to a cloud."""
    way = transfer.choose(cloud, delivery)
    with payload.prepared(build, build.manifest(), delivery.disk_format) as sent:
        return transfer.fill(cloud, record(cloud, build, sent.artifact.format), "x", sent, way)


def content(cloud: client.Cloud, image: client.Image) -> bytes:
    """An image's data."""
    sink = io.BytesIO()
    cloud.download(image.id, sink)
    return sink.getvalue()


def raw_of(build: Build) -> bytes:
    """A build's disk."""
    target = build.folder / "by-hand"
    subprocess.run(["qemu-img", "convert", "-O", "raw", build.image(), target], check=True)
    data = target.read_bytes()
    target.unlink()
    return data


def leftovers(build: Build) -> list[str]:
    """What lies beside a build that was not there before, locks aside."""
    known = {"manifest.json", "state.json", "image.qcow2"}
    return sorted(path.name for path in build.folder.iterdir() if path.name not in known and path.suffix != ".lock")


# --- the ways ---


@pytest.mark.parametrize("method", ["put", "glance-direct", "web-download"])
def test_a_build_arrives_as_it_is(cloud: client.Cloud, build: Build, web: WebServer, method: transfer.Method) -> None:
    url = f"{web.url}/builds/" if method == "web-download" else ""
    delivery = Delivery(import_method=method, web_download_url=url)
    image = delivered(cloud, build, delivery)
    assert content(cloud, image) == build.image().read_bytes()
    assert transfer.holds(image, build, build.manifest(), delivery)


def test_a_build_gets_into_the_store_that_is_named(cloud: client.Cloud, build: Build) -> None:
    assert delivered(cloud, build, Delivery(stores=("second",))).stores == ("second",)


@pytest.mark.parametrize("stores", [("main", "second"), None], ids=["named", "all"])
def test_a_build_gets_into_several_stores(cloud: client.Cloud, build: Build, stores: tuple[str, ...] | None) -> None:
    image = delivered(cloud, build, Delivery(stores=stores))
    assert sorted(image.stores) == ["main", "second"]
    assert image.status == "active"


# --- what a cloud offers ---


def test_a_plain_upload_is_what_a_cloud_gets_without_a_setting(proxy: Proxy, proxied: Path) -> None:
    behind = client.connect("local", file=proxied)
    proxy.reset()
    assert transfer.choose(behind, Delivery()) == Route(method="put")
    assert proxy.seen == []


@pytest.mark.parametrize(
    ("delivery", "way"),
    [
        (Delivery(stores=("second",)), Route(method="put", stores=("second",))),
        (Delivery(stores=("main", "second")), Route(method="glance-direct", stores=("main", "second"))),
        (Delivery(web_download_url="http://x"), Route(method="web-download", url="http://x")),
        (Delivery(import_method="glance-direct"), Route(method="glance-direct")),
    ],
)
def test_auto_is_what_the_delivery_needs(cloud: client.Cloud, delivery: Delivery, way: Route) -> None:
    assert transfer.choose(cloud, delivery) == way


def test_auto_is_a_plain_upload_where_nothing_else_is_offered(proxy: Proxy, proxied: Path) -> None:
    proxy.on("GET", "/v2/info/", answer(404), always=True)
    behind = client.connect("local", file=proxied)
    assert transfer.choose(behind, Delivery(web_download_url="http://x")) == Route(method="put")


@pytest.mark.parametrize(
    ("delivery", "offered", "message"),
    [
        (Delivery(stores=("ceph",)), True, "has no store ceph .* it offers main, second"),
        (Delivery(stores=("main",)), False, "no choice of stores"),
        (Delivery(import_method="glance-direct"), False, "does not offer glance-direct; it offers put$"),
        (Delivery(import_method="web-download", web_download_url="http://x"), False, "does not offer web-download"),
        (Delivery(import_method="put", stores=None), True, "goes to one store, not to main, second"),
    ],
)
def test_what_a_cloud_lacks_is_reported_before_anything_is_sent(
    proxy: Proxy, proxied: Path, delivery: Delivery, offered: bool, message: str
) -> None:
    if not offered:
        proxy.on("GET", "/v2/info/", answer(404), always=True)
    with pytest.raises(CloudError, match=message) as failure:
        transfer.choose(client.connect("local", file=proxied), delivery)
    assert "images.yaml" in failure.value.remedy or "import_method" in failure.value.remedy
    assert proxy.changes() == []


# --- what goes wrong ---


@pytest.mark.parametrize("method", ["glance-direct", "web-download"])
def test_an_import_of_what_is_no_image_fails(
    cloud: client.Cloud, build: Build, web: WebServer, method: transfer.Method
) -> None:
    noise = os.urandom(200_000)
    build.image().write_bytes(noise)
    about = dataclasses.replace(build.manifest().artifact, size=len(noise), sha256=hashlib.sha256(noise).hexdigest())
    sent = Payload(path=build.image(), artifact=about, original=about)
    with pytest.raises(ServiceError, match=r"import of image .* failed: .*main"):
        transfer.fill(cloud, record(cloud, build), "x", sent, Route(method=method, url=f"{web.url}/builds"))


def test_a_web_server_that_is_down_is_named(cloud: client.Cloud, build: Build) -> None:
    with pytest.raises(ServiceError, match=r"the import of image .* failed: Task failed") as failure:
        delivered(cloud, build, Delivery(import_method="web-download", web_download_url="http://127.0.0.1:9/builds"))
    assert f"http://127.0.0.1:9/builds/{build.variant}/{build.build_id}/image.qcow2" in failure.value.remedy


def test_a_web_server_with_another_build_at_that_place_is_noticed(
    cloud: client.Cloud, variant: Variant, build: Build, make_build: MakeBuild, web: WebServer
) -> None:
    web.files.clear()
    web.put(f"/builds/{build.variant}/{build.build_id}/image.qcow2", make_build(variant).image())
    with pytest.raises(CloudError, match="not what was sent"):
        delivered(cloud, build, Delivery(web_download_url=f"{web.url}/builds"))


@pytest.mark.parametrize("method", ["put", "glance-direct"])
def test_a_file_that_changed_since_it_was_built_is_not_sent(
    cloud: client.Cloud, build: Build, method: transfer.Method
) -> None:
    whole = bytearray(build.image().read_bytes())
    whole[-1] ^= 1
    build.image().write_bytes(whole)
    with pytest.raises(VerifyError, match="not the file that was built"):
        delivered(cloud, build, Delivery(import_method=method))


def test_an_import_that_takes_too_long_is_given_up(cloud: client.Cloud, build: Build) -> None:
    with pytest.raises(ServiceError, match=r"not finished after 0.3 s \(queued\)"):
        interop_import.wait(cloud, record(cloud, build), deadline=0.3)


IMPORTING, FAILED = "os_glance_importing_to_stores", "os_glance_failed_import"


@pytest.mark.parametrize(
    ("seen", "tasks", "state"),
    [
        (("active", {IMPORTING: "second"}), ["processing"], "running"),
        (("active", {}), ["processing"], "running"),
        (("active", {}), ["success"], "done"),
        (("importing", {FAILED: "main"}), ["processing"], "failed"),
        (("queued", {}), ["failure"], "failed"),
        (("queued", {}), ["pending"], "running"),
        (("importing", {}), ["failure", "processing"], "running"),
        (("active", {IMPORTING: "second"}), None, "running"),
        (("active", {}), None, "done"),
        (("importing", {FAILED: "main"}), None, "failed"),
        (("queued", {}), None, "failed"),
    ],
)
def test_an_import_is_done_when_all_of_it_is(
    seen: tuple[str, dict[str, str]], tasks: list[str] | None, state: str
) -> None:
    listed = None if tasks is None else [{"created_at": str(at), "status": each} for at, each in enumerate(tasks)]
    status, properties = seen
    about = {"id": "x", "status": status, "visibility": "private", "created_at": "2026-11-22T12:00:00Z"}
    image = glance_image.read({**about, **properties})
    assert interop_import.progress(image, listed, started=True).state == state


def test_an_import_at_a_glance_that_lists_no_tasks(build: Build, proxy: Proxy, proxied: Path) -> None:
    proxy.on("GET", "/tasks", answer(404), always=True)
    image = delivered(client.connect("local", file=proxied), build, Delivery(import_method="glance-direct"))
    assert image.status == "active"


# --- raw ---


@pytest.mark.parametrize("method", ["put", "glance-direct", "web-download"])
def test_a_cloud_that_wants_raw_gets_raw(
    cloud: client.Cloud, build: Build, web: WebServer, method: transfer.Method
) -> None:
    url = f"{web.url}/builds" if method == "web-download" else ""
    delivery = Delivery(disk_format="raw", import_method=method, web_download_url=url)
    image = delivered(cloud, build, delivery)
    assert (image.disk_format, content(cloud, image)) == ("raw", raw_of(build))
    assert transfer.holds(image, build, build.manifest(), delivery)
    assert leftovers(build) == []


def test_a_cloud_that_wants_raw_does_not_keep_what_is_not(cloud: client.Cloud, build: Build) -> None:
    image = delivered(cloud, build, Delivery())
    assert not transfer.holds(image, build, build.manifest(), Delivery(disk_format="raw"))


def test_raw_data_that_were_not_compared_are_not_a_builds(cloud: client.Cloud, build: Build) -> None:
    image = cloud.image(record(cloud, build, "raw"))
    data = raw_of(build)
    cloud.put_data(image.id, lambda: iter([data]), len(data))
    assert not transfer.holds(cloud.image(image.id), build, build.manifest(), Delivery(disk_format="raw"))


def test_two_who_send_raw_at_once_convert_once(build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    real = shutil.which("qemu-img")
    (tools / "qemu-img").write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/ran\nexec {real} "$@"\n')
    (tools / "qemu-img").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    together, digests = threading.Barrier(2), set()

    def convert() -> None:
        with payload.prepared(build, build.manifest(), "raw") as sent:
            together.wait(30)
            digests.add((sent.artifact.sha256, hashlib.sha256(sent.path.read_bytes()).hexdigest()))

    both = [threading.Thread(target=convert) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    sha256 = hashlib.sha256(raw_of(build)).hexdigest()
    assert digests == {(sha256, sha256)}
    assert (tmp_path / "ran").read_text().split().count("convert") == 2  # ours, and `raw_of`'s
    assert leftovers(build) == []


def test_the_copy_stays_until_the_last_has_sent_it(build: Build) -> None:
    with payload.prepared(build, build.manifest(), "raw") as slow:
        with payload.prepared(build, build.manifest(), "raw"):
            pass
        payload.sweep(build)
        assert slow.path.exists()
    assert not slow.path.exists()


def test_a_copy_is_gone_when_the_upload_fails(build: Build) -> None:
    with pytest.raises(CloudError), payload.prepared(build, build.manifest(), "raw"):
        raise CloudError("no")
    assert leftovers(build) == []


def test_a_copy_that_a_killed_process_left_is_swept_away(build: Build) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from pipelines.artifacts import store; from pipelines.release import payload\n"
        "build = store.builds(Path(sys.argv[1]), sys.argv[2])[0]\n"
        "with payload.prepared(build, build.manifest(), 'raw'): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    argv = [sys.executable, "-c", program, str(build.folder.parent.parent), build.variant]
    subprocess.run(argv, check=False, capture_output=True)
    assert "image.raw" in leftovers(build)
    payload.sweep(build)
    assert leftovers(build) == []


def test_a_half_made_copy_of_any_build_of_the_variant_is_swept_away(
    build: Build, make_build: MakeBuild, variant: Variant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    # As if we were killed while qemu-img writes its last argument.
    killed = "case $1 in convert) for part; do :; done; echo half > $part; kill -9 $PPID;; "
    (tools / "qemu-img").write_text(f'#!/bin/bash\n{killed}*) exec {shutil.which("qemu-img")} "$@";; esac\n')
    (tools / "qemu-img").chmod(0o755)
    program = (
        "import sys; from pathlib import Path\n"
        "from pipelines.artifacts import store; from pipelines.release import payload\n"
        "build = store.builds(Path(sys.argv[1]), sys.argv[2])[0]\n"
        "with payload.prepared(build, build.manifest(), 'raw'): pass\n"
    )
    argv = [sys.executable, "-c", program, str(build.folder.parent.parent), build.variant]
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        subprocess.run(argv, check=False, capture_output=True)
    (build.folder / ".image.raw.json").write_text("{}")  # right before the copy gets its name
    assert leftovers(build) == [".image.raw.json", ".image.raw.part"]
    payload.sweep(make_build(variant))
    assert leftovers(build) == []


def test_a_copy_that_is_being_made_is_not_swept_away(build: Build) -> None:
    part = build.folder / ".image.raw.part"
    part.write_bytes(b"half")
    with locks.hold(build.folder / ".image.raw.lock", "busy"):
        payload.sweep(build)
        assert part.exists()
    payload.sweep(build)
    assert not part.exists()


def test_a_copy_without_disk_space_is_not_started(build: Build, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    room = build.image().stat().st_size + 128 * 1024
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", small], check=True)
    try:
        shutil.copytree(build.folder, small / "it")
        there = dataclasses.replace(build, folder=small / "it")
        with (
            pytest.raises(HostError, match=r"a raw copy of image\.qcow2 needs"),
            payload.prepared(there, there.manifest(), "raw"),
        ):
            pass
        assert leftovers(there) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_damaged_build_is_not_converted(build: Build) -> None:
    whole = bytearray(build.image().read_bytes())
    whole[-1] ^= 1
    build.image().write_bytes(whole)
    with pytest.raises(VerifyError, match="sha256"), payload.prepared(build, build.manifest(), "raw"):
        pass
    assert leftovers(build) == []


# --- a cloud that converts what it imports: the image's format is then another than when it was made ---


@pytest.mark.parametrize("sound", [True, False])
def test_what_a_cloud_converted_is_compared_with_our_own_conversion(
    cloud: client.Cloud, build: Build, web: WebServer, sound: bool
) -> None:
    # What the web server has here is what Glance's image_conversion would make of the build.
    converted = raw_of(build) if sound else os.urandom(len(raw_of(build)))
    web.put(f"/as-converted/{build.variant}/{build.build_id}/image.qcow2", converted)
    image_id = record(cloud, build, "raw")
    sent = payload.canonical(build, build.manifest())
    way = Route(method="web-download", url=f"{web.url}/as-converted")
    if sound:
        image = transfer.fill(cloud, image_id, "x", sent, way)
        assert transfer.holds(image, build, build.manifest(), Delivery())
    else:
        with pytest.raises(CloudError, match="not what was sent"):
            transfer.fill(cloud, image_id, "x", sent, way)
    assert leftovers(build) == []


def test_what_a_cloud_converted_to_something_else_is_refused(cloud: client.Cloud, build: Build) -> None:
    with payload.prepared(build, build.manifest(), "raw") as sent:
        as_if = dataclasses.replace(
            sent, path=build.image(), artifact=dataclasses.replace(build.manifest().artifact, format="raw")
        )
        with pytest.raises(CloudError, match="converted x from raw to qcow2") as failure:
            transfer.fill(cloud, record(cloud, build), "x", as_if, Route(method="put"))
    assert "import_method: put" in failure.value.remedy
