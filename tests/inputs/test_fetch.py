"""Files are used only if they have the digest that was published."""

import hashlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.inputs.fetch import Fetched, Wanted, digest, fetch
from pipelines.inputs.http import Patience
from pipelines.util.errors import BuildError, CatalogError, HostError, PipelineError
from tests.support.fakes.web_server import (
    WebServer,
    answer,
    cut_after,
    instead,
    lengthless,
    redirect,
    serving,
    trickle,
    wait,
)
from tests.support.openpgp import Signer

IMAGE = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(2**14))  # 512 KiB
SHA256 = hashlib.sha256(IMAGE).hexdigest()
OTHER = IMAGE[::-1]
HASTY = Patience(connect=2, read=0.3, tries=3, pause=0.01)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving() as running:
        running.put("/image.qcow2", IMAGE)
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def pinned(server: WebServer) -> Wanted:
    return Wanted(name="image.qcow2", url=f"{server.url}/image.qcow2", sha256=SHA256)


def listed(server: WebServer, text: str) -> Wanted:
    """The image, with a list of checksums that nobody signed."""
    server.put("/SUMS", text.encode())
    return Wanted(name="image.qcow2", url=f"{server.url}/image.qcow2", sums_url=f"{server.url}/SUMS")


def signed(server: WebServer, signer: Signer, maker: str, tmp_path: Path, *, content: bytes = IMAGE) -> Wanted:
    """The image, with a signed list of checksums."""
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(f"{hashlib.sha256(content).hexdigest()} *image.qcow2\n")
    server.put("/SHA256SUMS", sums.read_bytes())
    server.put("/SHA256SUMS.gpg", signer.detached(sums, maker).read_bytes())
    return Wanted(
        name="image.qcow2",
        url=f"{server.url}/image.qcow2",
        sums_url=f"{server.url}/SHA256SUMS",
        signature_url=f"{server.url}/SHA256SUMS.gpg",
        signed_by=maker,
        keyring=signer.keyring(maker),
    )


def kept(cache: Path) -> list[Path]:
    """All files in the cache that a build could use, or that a later run would go on with."""
    return [path for path in cache.rglob("*") if path.is_file() and path.suffix not in {".lock", ".uses"}]


def refused(wanted: Wanted, cache: Path) -> PipelineError:
    with pytest.raises(BuildError) as caught:
        fetch(wanted, cache, HASTY)
    assert caught.value.remedy
    assert kept(cache) == []
    return caught.value


# What is right.


def test_a_pinned_file_is_downloaded_once_and_cached_under_its_digest(server: WebServer, cache: Path) -> None:
    expected = Fetched(path=cache / SHA256 / "image.qcow2", sha256=SHA256, signed_by=None)
    assert [fetch(pinned(server), cache), fetch(pinned(server), cache)] == [expected, expected]
    assert expected.path.read_bytes() == IMAGE
    assert server.got("/image.qcow2") == [""]
    assert kept(cache) == [expected.path]


def test_a_signed_list_decides_which_file_is_right_and_its_signer_is_known(
    server: WebServer, signer: Signer, maker: str, tmp_path: Path, cache: Path
) -> None:
    got = fetch(signed(server, signer, maker, tmp_path), cache)
    assert (got.sha256, got.signed_by) == (SHA256, maker)


def test_an_inline_signed_list_does_too(
    server: WebServer, signer: Signer, maker: str, tmp_path: Path, cache: Path
) -> None:
    sums = tmp_path / "CHECKSUM"
    sums.write_text(f"SHA256 (image.qcow2) = {SHA256}\n")
    wanted = Wanted(
        name="image.qcow2",
        url=f"{server.url}/image.qcow2",
        sums_url=server.put("/CHECKSUM", signer.inline(sums, maker).read_bytes()),
        signed_by=maker,
        keyring=signer.keyring(maker),
    )
    assert fetch(wanted, cache).sha256 == SHA256


@pytest.mark.parametrize(
    "line",
    [
        f"{SHA256}  image.qcow2",
        f"{SHA256} *image.qcow2",
        f"{SHA256.upper()}  ./image.qcow2",
        f"SHA256 (image.qcow2) = {SHA256}",
        f"SHA512 (image.qcow2) = {hashlib.sha512(IMAGE).hexdigest()}",
        f"{hashlib.sha512(IMAGE).hexdigest()}  image.qcow2",
    ],
    ids=["text", "binary", "below", "tagged", "tagged-sha512", "sha512"],
)
def test_lists_of_checksums_have_many_forms(server: WebServer, cache: Path, line: str) -> None:
    text = f"# image.qcow2: {len(IMAGE)} bytes\n{'0' * 64}  other-image.qcow2\n{line}\n{'0' * 64}  image.qcow2.zst\n"
    got = fetch(listed(server, text), cache)
    assert (got.path.read_bytes(), got.sha256, got.signed_by) == (IMAGE, SHA256, None)


def test_planning_asks_for_the_digest_and_not_for_the_image(
    server: WebServer, signer: Signer, maker: str, tmp_path: Path
) -> None:
    assert digest(signed(server, signer, maker, tmp_path)) == SHA256
    assert [path for _, path, _ in server.seen] == ["/SHA256SUMS", "/SHA256SUMS.gpg"]


def test_a_local_file_is_hashed_and_stays_where_it_is(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "my image.qcow2"
    path.write_bytes(IMAGE)
    by_path = Wanted(name=path.name, path=path, sha256=SHA256)
    by_url = Wanted(name=path.name, url=path.as_uri(), sha256=SHA256)
    assert [fetch(wanted, cache).path for wanted in (by_path, by_url)] == [path, path]
    assert not cache.exists()


def test_a_local_file_without_a_digest_is_believed(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "image.qcow2"
    path.write_bytes(IMAGE)
    assert fetch(Wanted(name=path.name, path=path), cache).sha256 == SHA256


def test_a_local_file_is_checked_against_a_signed_list(
    server: WebServer, signer: Signer, maker: str, tmp_path: Path, cache: Path
) -> None:
    wanted = signed(server, signer, maker, tmp_path)
    path = tmp_path / "image.qcow2"
    path.write_bytes(OTHER)
    error = refused(replace(wanted, path=path), cache)
    assert f"{path} is not the expected file" in error.what
    assert path.exists()


# What is not.


def test_a_list_signed_by_another_key_is_refused_before_the_image_is_requested(
    server: WebServer, signer: Signer, maker: str, tmp_path: Path, cache: Path
) -> None:
    wanted = signed(server, signer, signer.key("somebody"), tmp_path)
    wanted = replace(wanted, signed_by=maker, keyring=signer.keyring(maker))
    assert f"not by the pinned key {maker}" in refused(wanted, cache).what
    assert server.got("/image.qcow2") == []


def test_a_signature_is_never_left_out_for_want_of_a_keyring(server: WebServer, maker: str) -> None:
    with pytest.raises(ValueError, match=f"no keyring has the key {maker}"):
        replace(listed(server, ""), signed_by=maker)


def test_a_list_that_was_changed_is_refused(
    server: WebServer, signer: Signer, maker: str, tmp_path: Path, cache: Path
) -> None:
    wanted = signed(server, signer, maker, tmp_path)
    server.put("/SHA256SUMS", f"{hashlib.sha256(OTHER).hexdigest()} *image.qcow2\n".encode())
    server.put("/image.qcow2", OTHER)
    assert "was changed after it was signed" in refused(wanted, cache).what


def test_an_image_that_was_changed_is_deleted(server: WebServer, cache: Path) -> None:
    server.on("/image", instead(OTHER), always=True)
    error = refused(pinned(server), cache)
    assert hashlib.sha256(OTHER).hexdigest() in error.what
    assert SHA256 in error.what


def test_an_image_that_its_list_does_not_have_is_refused_with_what_it_has(server: WebServer, cache: Path) -> None:
    error = refused(listed(server, f"{SHA256}  image.raw\n"), cache)
    assert error.what == "the checksums do not list image.qcow2"
    assert "image.raw" in error.remedy


def test_a_list_that_contradicts_itself_is_refused(server: WebServer, cache: Path) -> None:
    text = f"{SHA256}  image.qcow2\n{'0' * 64}  image.qcow2\n"
    assert "with 2 different digests" in refused(listed(server, text), cache).what


def test_an_image_published_between_list_and_download_is_taken_with_its_new_list(
    server: WebServer, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = listed(server, f"{hashlib.sha256(OTHER).hexdigest()}  image.qcow2\n")
    new_list = f"{SHA256}  image.qcow2\n".encode()
    server.on("/image", lambda _: server.files.update({"/SUMS": new_list}))
    assert fetch(wanted, cache, HASTY).sha256 == SHA256
    assert "newer image.qcow2 has been published meanwhile" in capsys.readouterr().err
    assert kept(cache) == [cache / SHA256 / "image.qcow2"]


def test_a_damaged_file_in_the_cache_is_dropped_and_downloaded_again(server: WebServer, cache: Path) -> None:
    path = fetch(pinned(server), cache).path
    path.write_bytes(OTHER)
    assert fetch(pinned(server), cache).path.read_bytes() == IMAGE
    assert len(server.got("/image.qcow2")) == 2


def test_without_a_digest_nothing_is_downloaded(server: WebServer, cache: Path) -> None:
    with pytest.raises(CatalogError, match="there is no digest to verify image by"):
        fetch(Wanted(name="image", url=f"{server.url}/image"), cache)
    assert server.seen == []


# Servers and networks.


def test_a_download_that_is_cut_goes_on_where_it_was(server: WebServer, cache: Path) -> None:
    half = len(IMAGE) // 2
    server.on("/image", cut_after(half))
    assert fetch(pinned(server), cache, HASTY).path.read_bytes() == IMAGE
    assert server.got("/image.qcow2") == ["", f"bytes={half}-"]
    assert server.headers_seen[1]["if-range"].startswith('"')


def test_a_later_run_goes_on_too(server: WebServer, cache: Path) -> None:
    half = len(IMAGE) // 2
    server.on("/image", cut_after(half))
    once = Patience(tries=1)
    with pytest.raises(BuildError, match="the connection was cut off"):
        fetch(pinned(server), cache, once)
    assert not (cache / SHA256).exists()
    assert fetch(pinned(server), cache, once).path.read_bytes() == IMAGE
    assert server.got("/image.qcow2")[-1] == f"bytes={half}-"


def test_a_server_without_ranges_begins_again(server: WebServer, cache: Path) -> None:
    server.ranges = False
    server.on("/image", cut_after(len(IMAGE) // 2))
    assert fetch(pinned(server), cache, HASTY).path.read_bytes() == IMAGE
    assert len(server.got("/image.qcow2")) == 2


def test_a_file_that_changed_between_two_tries_is_fetched_from_its_beginning(server: WebServer, cache: Path) -> None:
    server.put("/image.qcow2", OTHER)
    server.on("/image", cut_after(len(IMAGE) // 2))
    server.on("/image", lambda _: server.files.update({"/image.qcow2": IMAGE}))
    assert fetch(pinned(server), cache, HASTY).path.read_bytes() == IMAGE


def test_old_bytes_that_do_not_fit_cost_a_second_download_and_no_more(server: WebServer, cache: Path) -> None:
    cache.mkdir()
    (cache / f"{SHA256}.part").write_bytes(b"nonsense")
    assert fetch(pinned(server), cache, HASTY).path.read_bytes() == IMAGE
    assert server.got("/image.qcow2") == ["bytes=8-", ""]


def test_a_complete_partial_file_is_not_downloaded_again(server: WebServer, cache: Path) -> None:
    cache.mkdir()
    (cache / f"{SHA256}.part").write_bytes(IMAGE)
    assert fetch(pinned(server), cache, HASTY).path.read_bytes() == IMAGE
    assert server.got("/image.qcow2") == [f"bytes={len(IMAGE)}-"]


def test_a_server_that_is_busy_is_asked_again(server: WebServer, cache: Path) -> None:
    server.on("/image", answer(503))
    assert fetch(pinned(server), cache, HASTY).sha256 == SHA256


def test_a_server_that_stays_broken_is_given_up_with_every_try(server: WebServer, cache: Path) -> None:
    server.on("/image", answer(503), always=True)
    error = refused(pinned(server), cache)
    assert [line.strip() for line in error.what.splitlines()[1:]] == [
        f"try {number}: the server answered 503 Service Unavailable" for number in (1, 2, 3)
    ]


def test_a_missing_file_is_not_requested_again(server: WebServer, cache: Path) -> None:
    del server.files["/image.qcow2"]
    assert "404 Not Found" in refused(pinned(server), cache).what
    assert len(server.seen) == 1


def test_a_server_that_never_answers_is_given_up(server: WebServer, cache: Path) -> None:
    server.on("/image", wait(1.0), always=True)
    assert "no answer for 0.3 s" in refused(pinned(server), cache).what


def test_a_server_that_hardly_sends_anything_is_given_up(server: WebServer, cache: Path) -> None:
    server.on("/image", trickle(0.02))
    with pytest.raises(BuildError, match=r"only \d+ bytes arrived in"):
        fetch(pinned(server), cache, Patience(read=0.3, tries=1))


def test_a_redirect_is_followed(server: WebServer, cache: Path) -> None:
    server.on("^/current", redirect("/image.qcow2"))
    assert fetch(Wanted(name="i", url=f"{server.url}/current", sha256=SHA256), cache).sha256 == SHA256


def test_the_proxy_of_the_environment_is_used(server: WebServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    wanted = Wanted(name="i", url="http://images.example.org/image.qcow2", sha256=SHA256)
    assert fetch(wanted, cache).sha256 == SHA256


def test_no_message_has_a_password(server: WebServer, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead = f"http://operator:hunter2@127.0.0.1:{free_port()}/image?token=hunter2"
    with pytest.raises(BuildError) as caught:
        fetch(Wanted(name="image", url=dead, sha256=SHA256), cache, HASTY)
    server.on("/image", cut_after(1000))
    fetch(Wanted(name="i", url=f"{server.url}/image.qcow2?token=hunter2", sha256=SHA256), cache, HASTY)
    said = caught.value.what + caught.value.remedy + capsys.readouterr().err
    assert "Connection refused" in said
    assert "hunter2" not in said


def test_two_at_once_download_it_once(server: WebServer, cache: Path) -> None:
    server.on("/image", wait(0.3))
    got: list[Fetched] = []
    threads = [threading.Thread(target=lambda: got.append(fetch(pinned(server), cache))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.path.read_bytes() for one in got] == [IMAGE, IMAGE]
    assert len(server.got("/image.qcow2")) == 1


# Room.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("unknown", [False, True], ids=["the-server-says-how-much", "nobody-knows-how-much"])
def test_a_disk_that_is_too_small_is_reported_and_left_empty(
    server: WebServer, small_disk: Path, unknown: bool
) -> None:
    if unknown:
        server.on("/image", lengthless)
    with pytest.raises(HostError, match=f"{small_disk} has .* KiB free") as caught:
        fetch(pinned(server), small_disk, HASTY)
    assert "--builds DIR" in caught.value.remedy
    assert kept(small_disk) == []


def test_a_local_file_that_does_not_exist_is_reported(cache: Path) -> None:
    with pytest.raises(HostError, match="there is no file /nowhere/image"):
        fetch(Wanted(name="image", path=Path("/nowhere/image")), cache)


# What the operator sees.


def test_without_a_terminal_there_is_one_line_and_no_bar(
    server: WebServer, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(pinned(server), cache)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("image.qcow2: 0 MiB in")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
