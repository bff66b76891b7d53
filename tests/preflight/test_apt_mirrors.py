"""The mirrors of the host's apt, as a build gets them."""

from pathlib import Path

import pytest

from pipelines.preflight import apt_mirrors

DEB822 = """\
# the main archive
Types: deb
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main

Types: deb deb-src
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
Enabled: no
URIs: http://disabled.example/debian
Suites: bookworm
"""


def etc(tmp_path: Path, *, release: str = "debian", one_line: str = "", deb822: str = "") -> Path:
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text(f'ID={release}\nVERSION_CODENAME="bookworm"\n')
    (tmp_path / "apt/sources.list").write_text(one_line)
    (tmp_path / "apt/sources.list.d/debian.sources").write_text(deb822)
    return tmp_path


def test_mirrors_come_from_the_hosts_deb822_sources(tmp_path: Path) -> None:
    assert apt_mirrors.usable("debian", etc(tmp_path, deb822=DEB822)) == {
        "DIB_DISTRIBUTION_MIRROR": "http://mirror.example/debian",
        "DIB_DEBIAN_SECURITY_MIRROR": "http://mirror.example/debian-security",
    }


def test_mirrors_come_from_one_line_sources_with_options(tmp_path: Path) -> None:
    text = "# deb http://no.example/d bookworm main\ndeb [arch=amd64 trusted=yes] http://m.example/d bookworm main\n"
    assert apt_mirrors.usable("debian", etc(tmp_path, one_line=text)) == {
        "DIB_DISTRIBUTION_MIRROR": "http://m.example/d"
    }


def test_a_guest_of_another_distribution_gets_no_mirror_of_the_host(tmp_path: Path) -> None:
    assert apt_mirrors.usable("ubuntu", etc(tmp_path, deb822=DEB822)) == {}


def test_a_host_of_another_distribution_has_no_mirror_for_it(tmp_path: Path) -> None:
    assert apt_mirrors.usable("debian", etc(tmp_path, release="fedora", deb822=DEB822)) == {}


def cloud_image(tmp_path: Path, form: str, listed: str) -> Path:
    """/etc as Debian's cloud images have it."""
    folder = etc(tmp_path, deb822=f"Types: deb\nURIs: {form}/etc/apt/mirrors/debian.list\nSuites: bookworm\n")
    (folder / "apt/mirrors").mkdir()
    (folder / "apt/mirrors/debian.list").write_text(listed)
    return folder


@pytest.mark.parametrize("form", ["mirror+file://", "mirror+file:"])
def test_of_a_list_of_mirrors_the_first_server_is_used(tmp_path: Path, form: str) -> None:
    listed = (
        "# ours\nfile:/srv/debian\thttps\nhttps://first.example/debian/\tpriority:1\nhttp://second.example/debian\n"
    )
    assert apt_mirrors.usable("debian", cloud_image(tmp_path, form, listed)) == {
        "DIB_DISTRIBUTION_MIRROR": "https://first.example/debian"
    }


def test_a_list_without_a_server_gives_no_mirror(tmp_path: Path) -> None:
    assert apt_mirrors.usable("debian", cloud_image(tmp_path, "mirror+file:", "file:/srv/debian\n")) == {}


def test_a_list_that_does_not_exist_gives_no_mirror(tmp_path: Path) -> None:
    folder = etc(tmp_path, one_line="deb mirror+file:/etc/apt/mirrors/none.list bookworm main\n")
    assert apt_mirrors.usable("debian", folder) == {}


@pytest.mark.parametrize(
    "uri", ["cdrom:[Debian_12]/", "file:/srv/debian", "mirror://m.example/list", "tor+http://m.example/debian"]
)
def test_what_only_the_hosts_apt_can_read_is_passed_over(tmp_path: Path, uri: str) -> None:
    deb822 = f"Types: deb\nURIs: {uri} http://next.example/debian\nSuites: bookworm\n"
    assert apt_mirrors.usable("debian", etc(tmp_path, deb822=deb822)) == {
        "DIB_DISTRIBUTION_MIRROR": "http://next.example/debian"
    }


PASSWORD = "deb https://me:hunter2@private.example/debian bookworm main\n"


def test_a_mirror_with_a_password_is_never_used(tmp_path: Path) -> None:
    assert apt_mirrors.usable("debian", etc(tmp_path, one_line=PASSWORD)) == {}


def test_a_mirror_with_a_password_is_named_without_it(tmp_path: Path) -> None:
    folder = etc(tmp_path, one_line=PASSWORD)
    assert apt_mirrors.secret("debian", folder) == {"DIB_DISTRIBUTION_MIRROR": "https://private.example/debian"}


def test_another_mirror_is_used_instead(tmp_path: Path) -> None:
    folder = etc(tmp_path, one_line=PASSWORD + "deb http://m.example/d bookworm main\n")
    assert apt_mirrors.usable("debian", folder) == {"DIB_DISTRIBUTION_MIRROR": "http://m.example/d"}
    assert apt_mirrors.secret("debian", folder) == {}


def test_a_list_of_mirrors_can_have_a_password_too(tmp_path: Path) -> None:
    folder = cloud_image(tmp_path, "mirror+file:", "https://me:hunter2@private.example/debian\n")
    assert apt_mirrors.usable("debian", folder) == {}
    assert "hunter2" not in str(apt_mirrors.secret("debian", folder))
