"""Changes of package repositories since a build."""

import hashlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pipelines.inputs import repositories
from pipelines.util.errors import BuildError
from tests.support.fakes.web_server import WebServer, answer, cut_after, instead, serving, trickle, wait
from tests.support.host_fixtures import DEAD

MAIN, EXTRA, OTHER = "main/binary-amd64/Packages", "contrib/binary-amd64/Packages", "main/binary-arm64/Packages"
INDEXES = {MAIN: "a" * 64, EXTRA: "b" * 64, OTHER: "c" * 64}
IN_RELEASE = "/debian/dists/trixie/InRelease"


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving() as running:
        running.put(IN_RELEASE, release())
        yield running


def release(indexes: Mapping[str, str] = INDEXES, *, date: str = "Sun, 22 Nov 2026 08:00:00 UTC") -> bytes:
    """An InRelease file, with digests of both kinds."""
    lines = ["-----BEGIN PGP SIGNED MESSAGE-----", "Hash: SHA512", "", "Origin: Debian", f"Date: {date}", "MD5Sum:"]
    lines += [f" {'0' * 32} 123 {index}" for index in indexes]
    lines += ["SHA256:", *(f" {sha256} 123 {index}" for index, sha256 in indexes.items())]
    lines += ["SHA512:", *(f" {'0' * 128} 123 {index}" for index in indexes)]
    lines += [
        "-----BEGIN PGP SIGNATURE-----",
        "",
        hashlib.sha256(date.encode()).hexdigest(),
        "-----END PGP SIGNATURE-----",
    ]
    return "\n".join(lines).encode()


def used(server: WebServer, path: str = IN_RELEASE, indexes: tuple[str, ...] = (MAIN, EXTRA)) -> dict[str, str]:
    """What a build took from an archive, in the state that `release` says by itself."""
    return {f"{server.url}{path} {index}": INDEXES[index] for index in indexes}


def trixie(server: WebServer) -> str:
    return f"{server.url}/debian/dists/trixie"


def test_a_repository_with_the_same_indexes_has_not_changed(server: WebServer) -> None:
    assert repositories.changed(used(server)) == ""


def test_a_repository_that_was_only_signed_again_has_not_changed(server: WebServer) -> None:
    server.put(IN_RELEASE, release(date="Mon, 23 Nov 2026 08:00:00 UTC"))
    assert repositories.changed(used(server)) == ""


def test_an_index_that_changed_is_named_by_its_component(server: WebServer) -> None:
    server.put(IN_RELEASE, release(INDEXES | {MAIN: "d" * 64}))
    assert repositories.changed(used(server)) == f"{trixie(server)} main has changed"


def test_several_components_of_a_repository_are_one_reason(server: WebServer) -> None:
    server.put(IN_RELEASE, release(INDEXES | {MAIN: "d" * 64, EXTRA: "e" * 64}))
    assert repositories.changed(used(server)) == f"{trixie(server)} contrib, main have changed"


def test_an_index_that_was_not_used_may_change(server: WebServer) -> None:
    server.put(IN_RELEASE, release(INDEXES | {OTHER: "d" * 64}))
    assert repositories.changed(used(server)) == ""


def test_an_index_that_is_gone_has_changed(server: WebServer) -> None:
    server.put(IN_RELEASE, release({MAIN: INDEXES[MAIN]}))
    assert repositories.changed(used(server)) == f"{trixie(server)} contrib has changed"


def test_a_flat_repository_is_named_by_its_folder(server: WebServer) -> None:
    server.put("/cuda/debian12/InRelease", release({"Packages": "1" * 64}))
    known = {f"{server.url}/cuda/debian12/InRelease Packages": "2" * 64}
    assert repositories.changed(known) == f"{server.url}/cuda/debian12 has changed"


def test_of_an_rpm_repository_the_whole_list_is_compared(server: WebServer) -> None:
    url = server.put("/9/BaseOS/os/repodata/repomd.xml", b"<repomd/>")
    known = {f"{url} -": hashlib.sha256(b"<repomd/>").hexdigest()}
    assert repositories.changed(known) == ""
    server.put("/9/BaseOS/os/repodata/repomd.xml", b"<repomd>another</repomd>")
    assert repositories.changed(known) == f"{server.url}/9/BaseOS/os has changed"


def test_a_local_repository_is_read(tmp_path: Path) -> None:
    (tmp_path / "InRelease").write_bytes(release({"Packages": "1" * 64}))
    known = {f"file:{tmp_path}/InRelease Packages": "1" * 64}
    assert repositories.changed(known) == ""
    (tmp_path / "InRelease").unlink()
    assert repositories.changed(known) == f"file:{tmp_path} cannot be checked: No such file or directory"


# Archives that give no answer


def test_a_list_that_is_not_there_counts_as_changed(server: WebServer) -> None:
    server.on(IN_RELEASE, answer(404))
    assert (
        repositories.changed(used(server)) == f"{trixie(server)} cannot be checked: the server answered 404 Not Found"
    )


def test_a_server_that_refuses_counts_as_changed() -> None:
    reason = repositories.changed({f"{DEAD}/dists/trixie/InRelease {MAIN}": "a" * 64})
    assert reason == f"{DEAD}/dists/trixie cannot be checked: Connection refused"


@pytest.mark.parametrize("stall", [wait(30), trickle(0.05)], ids=["silent", "byte after byte"])
def test_no_answer_is_waited_for_longer_than_the_deadline(server: WebServer, stall: object) -> None:
    server.on(IN_RELEASE, stall, always=True)  # type: ignore[arg-type]
    began = time.monotonic()
    reason = repositories.changed(used(server), deadline=0.4)
    assert time.monotonic() - began < 2
    assert reason == f"{trixie(server)} cannot be checked: no answer for 0.4 s"


def test_a_failure_that_passes_is_no_change(server: WebServer) -> None:
    server.on(IN_RELEASE, cut_after(10))
    assert repositories.changed(used(server)) == ""


def test_a_page_of_another_server_is_no_answer(server: WebServer) -> None:
    server.on(IN_RELEASE, instead(b"<html>Please log in</html>"))
    assert (
        repositories.changed(used(server)) == f"{trixie(server)} cannot be checked: its answer is not a list of indexes"
    )


def test_a_repository_without_a_list_of_indexes_counts_as_changed(server: WebServer) -> None:
    known = {f"{server.url}{IN_RELEASE} {MAIN}": "-"}
    assert (
        repositories.changed(known)
        == f"{trixie(server)} cannot be checked: it listed no digest for its index when the image was built"
    )


@pytest.mark.parametrize(("hour", "why"), [("07", ""), ("09", "its list of indexes expired on 2026-11-29")])
def test_a_list_is_believed_until_it_expires_by_its_own_servers_clock(server: WebServer, hour: str, why: str) -> None:
    server.put(IN_RELEASE, release().replace(b"MD5Sum:", b"Valid-Until: Sun, 29 Nov 2026 08:00:00 UTC\nMD5Sum:"))
    server.date = f"Sun, 29 Nov 2026 {hour}:00:00 GMT"
    assert repositories.changed(used(server)) == (f"{trixie(server)} cannot be checked: {why}" if why else "")


def test_without_a_clock_no_list_is_taken_for_expired(server: WebServer) -> None:
    server.put(IN_RELEASE, release().replace(b"MD5Sum:", b"Valid-Until: Sun, 29 Nov 2020 08:00:00 UTC\nMD5Sum:"))
    assert repositories.changed(used(server)) == ""


def test_a_scheme_that_only_a_guest_knows_counts_as_changed() -> None:
    assert "cdrom:/debian/dists/trixie cannot be checked: " in repositories.changed(
        {f"cdrom:/debian/dists/trixie/InRelease {MAIN}": "a" * 64}
    )


# Many archives


def many(server: WebServer, count: int) -> dict[str, str]:
    known: dict[str, str] = {}
    for number in range(count):
        path = f"/s{number}/InRelease"
        server.put(path, release())
        known |= used(server, path)
    return known


def test_repositories_are_asked_at_the_same_time_and_once_each(server: WebServer) -> None:
    known = many(server, 4)
    server.on("InRelease", wait(0.5), always=True)
    assert repositories.changed(known, deadline=1.5) == ""
    assert sorted(path for _, path, _ in server.seen) == [f"/s{number}/InRelease" for number in range(4)]


def test_one_that_stalls_does_not_hide_the_answer_of_another(server: WebServer) -> None:
    server.put("/s1/InRelease", release({MAIN: "d" * 64}))
    server.on(IN_RELEASE, wait(30))
    reason = repositories.changed(used(server) | used(server, "/s1/InRelease", (MAIN,)), deadline=0.5)
    assert f"{trixie(server)} cannot be checked: no answer for 0.5 s; {server.url}/s1 main has changed" == reason


def test_of_many_changes_the_first_are_named_and_the_rest_counted(server: WebServer) -> None:
    known = dict.fromkeys(many(server, 5), "d" * 64)
    reason = repositories.changed(known)
    assert reason.startswith(f"{server.url}/s0 contrib, main have changed; {server.url}/s1 ")
    assert reason.endswith("; and 2 more")


def test_repositories_are_asked_through_the_proxy(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    known = {f"http://archive.invalid{IN_RELEASE} {MAIN}": INDEXES[MAIN]}
    assert repositories.changed(known) == ""


# What a guest says of its archives


def test_the_output_of_a_guest_is_read_line_by_line() -> None:
    text = f"http://m.example/d/InRelease {MAIN} {'a' * 64}\nhttps://m.example/os/repodata/repomd.xml - {'b' * 64}\n"
    assert repositories.read(text) == {
        f"http://m.example/d/InRelease {MAIN}": "a" * 64,
        "https://m.example/os/repodata/repomd.xml -": "b" * 64,
    }


def test_a_password_in_an_address_is_not_recorded() -> None:
    assert list(repositories.read(f"https://me:hunter2@m.example/InRelease {MAIN} {'a' * 64}")) == [
        f"https://m.example/InRelease {MAIN}"
    ]


def test_a_line_that_is_not_the_state_of_a_repository_is_refused() -> None:
    with pytest.raises(BuildError, match="W: something"):
        repositories.read("W: something")
