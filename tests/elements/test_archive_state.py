"""The state of package repositories that a guest reports, compared with the repositories; with real apt and dnf."""

import lzma
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.inputs import repositories as inputs_repositories
from tests.support.chroot import Chroot
from tests.support.fakes.web_server import WebServer, answer, serving
from tests.support.standins import archive, keys, rpm
from tests.support.standins.keys import Key

LISTS = "/var/lib/the-guests/lists"
APT = f"""\
Dir::State::Lists "{LISTS}";
Dir::Etc::SourceList "/etc/apt/the-guests.list";
Dir::Etc::SourceParts "/var/lib/the-guests/none";
Dir::Etc::Main "/var/lib/the-guests/none";
Dir::Etc::Parts "/var/lib/the-guests/none";
APT::Architecture "amd64";
APT::Architectures "amd64";
"""
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # sha256 of nothing
INDEX = "main/binary-amd64/Packages"


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return keys.make(tmp_path_factory.mktemp("key"), "A vendor <vendor@example.org>")


def ran(guest: Chroot, script: str, **environment: str) -> str:
    """What commands print in a guest, all of them successful."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(f"set -euo pipefail\n{script}\n")
        file.flush()
        result = guest.run(Path(file.name), **environment)
    assert result.returncode == 0, result.stdout
    return "".join(line for line in result.stdout.splitlines(True) if not line.startswith("kernel left"))


# apt


@pytest.fixture
def debian(tmp_path: Path) -> Chroot:
    """A guest that knows no archive, and has read no lists."""
    chroot = Chroot(tmp_path)
    chroot.commands("debian-family")
    chroot.file("/etc/apt/the-guests.conf", APT)
    chroot.file(f"{LISTS}/partial/.there")
    chroot.file("/var/lib/the-guests/none/.there")
    return chroot


def apt_state(guest: Chroot, sources: str, before: str = "") -> dict[str, str]:
    guest.file("/etc/apt/the-guests.list", sources)
    script = f"{before}\nguest-os repository-state"
    return dict(inputs_repositories.read(ran(guest, script, APT_CONFIG="/etc/apt/the-guests.conf")))


def release(*entries: str, more: str = "") -> str:
    lines = [f" {'0' * 32} 10 {entry}" for entry in entries]
    lines += ["SHA256:", *(f" {str(number) * 64} 10 {entry}" for number, entry in enumerate(entries, 1))]
    return "\n".join(["Origin: Debian", *([more] if more else []), "MD5Sum:", *lines, ""])


def test_a_guest_reports_the_state_of_its_package_repositories(
    debian: Chroot, server: WebServer, key: Key, tmp_path: Path
) -> None:
    def publish(packages: str) -> None:
        (tmp_path / "Packages.xz").write_bytes(lzma.compress(packages.encode()))
        suites = (archive.Suite(name="trixie", index=tmp_path / "Packages.xz"), archive.Suite(name="trixie-security"))
        archive.publish(tmp_path / "debian", suites, key, origin="Debian")

    publish("Package: a\nVersion: 1\nArchitecture: amd64\nFilename: a.deb\nSize: 1\n\n")
    archive.publish_flat(tmp_path / "x86_64", (), key, label="NVIDIA CUDA")
    main, flat = server.put("/debian", tmp_path / "debian"), server.put("/cuda/x86_64", tmp_path / "x86_64")
    debian.copy(key.keyring, "/usr/share/keyrings/vendor.gpg")
    deb = "deb [signed-by=/usr/share/keyrings/vendor.gpg]"
    sources = f"{deb} {main} trixie main universe\n{deb} {main} trixie-security main\n{deb} {flat}/ /\n"
    known = apt_state(debian, sources, "guest-os read-package-lists > /dev/null 2>&1")
    universe = known.pop(f"{main}/dists/trixie/InRelease universe/binary-amd64/Packages")
    assert known == {  # those without a package too: one may come
        f"{main}/dists/trixie/InRelease {INDEX}": EMPTY,
        f"{main}/dists/trixie-security/InRelease {INDEX}": EMPTY,
        f"{flat}/InRelease Packages": EMPTY,
    }
    known[f"{main}/dists/trixie/InRelease universe/binary-amd64/Packages"] = universe
    assert inputs_repositories.changed(known) == ""
    publish("Package: a\nVersion: 2\nArchitecture: amd64\nFilename: a.deb\nSize: 1\n\n")
    assert inputs_repositories.changed(known) == f"{main}/dists/trixie universe has changed"


TRIXIE = "m.example_debian_dists_trixie"
URL = "http://m.example/debian/dists/trixie"


def test_an_index_that_another_one_contains_is_not_in_use(debian: Chroot) -> None:
    entries = (INDEX, "main/binary-all/Packages")
    apart = "No-Support-for-Architecture-all: Packages"
    debian.file(f"{LISTS}/{TRIXIE}_InRelease", release(*entries, more=apart))
    debian.file(f"{LISTS}/{TRIXIE}-security_InRelease", release(*entries))
    sources = "".join(f"deb [trusted=yes] http://m.example/debian {s} main\n" for s in ("trixie", "trixie-security"))
    assert apt_state(debian, sources) == {
        f"{URL}/InRelease {INDEX}": "1" * 64,
        f"{URL}-security/InRelease {INDEX}": "1" * 64,
        f"{URL}-security/InRelease main/binary-all/Packages": "2" * 64,
    }


def test_a_list_may_be_signed_apart_and_know_a_compressed_index_alone(debian: Chroot) -> None:
    debian.file(f"{LISTS}/{TRIXIE}_Release", release("my_part/binary-amd64/Packages.gz", "other/binary-amd64/Packages"))
    sources = "deb [trusted=yes] http://m.example/debian trixie my_part\n"
    assert apt_state(debian, sources) == {f"{URL}/Release my_part/binary-amd64/Packages.gz": "1" * 64}


def test_a_package_repository_without_a_list_never_counts_as_unchanged(debian: Chroot, server: WebServer) -> None:
    known = apt_state(debian, f"deb [trusted=yes] {server.url}/flat ./\n")
    assert known == {f"{server.url}/flat/./Release Packages": "-"}
    assert "cannot be checked" in inputs_repositories.changed(known)


def test_a_list_of_mirrors_stands_for_its_first(debian: Chroot) -> None:
    # As in Debian's cloud images.
    debian.file("/etc/apt/mirrors/debian.list", "# mirrors\nhttp://m.example/debian/\tpriority:1\nhttp://n.example/d\n")
    debian.file(f"{LISTS}/_etc_apt_mirrors_debian.list_dists_trixie_InRelease", release(INDEX))
    sources = "deb [trusted=yes] mirror+file:/etc/apt/mirrors/debian.list trixie main\n"
    assert apt_state(debian, sources) == {f"{URL}/InRelease {INDEX}": "1" * 64}


# dnf


@pytest.fixture
def redhat(tmp_path: Path) -> Chroot:
    """A guest that knows no repository."""
    chroot = Chroot(tmp_path)
    chroot.commands("redhat-family")
    chroot.file("/etc/dnf/vars/releasever", "9")
    chroot.file("/etc/dnf/plugins/local.conf", "[main]\nenabled=0\n")  # Debian turns it on
    chroot.file("/etc/yum.repos.d/.there")
    return chroot


def dnf_state(guest: Chroot, repositories: dict[str, str]) -> dict[str, str]:
    """What a guest says after it has read these repositories (name → lines)."""
    text = "".join(f"[{name}]\nname={name}\ngpgcheck=0\n{lines}\n" for name, lines in repositories.items())
    guest.file("/etc/yum.repos.d/all.repo", text)
    return dict(
        inputs_repositories.read(ran(guest, "guest-os read-package-lists > /dev/null 2>&1\nguest-os repository-state"))
    )


def publish(server: WebServer, folder: Path, *paths: str) -> dict[str, str]:
    """Repositories without packages, each another one; what is to be known of them."""
    known = {}
    for path in paths:
        root = folder / path.lstrip("/")
        rpm.publish(root, ())
        subprocess.run(["createrepo_c", "--quiet", "--revision", path, root], check=True, capture_output=True)
        url = server.put(path, root)
        digest = subprocess.run(["sha256sum", root / "repodata/repomd.xml"], check=True, capture_output=True, text=True)
        known[f"{url}/repodata/repomd.xml -"] = digest.stdout.split()[0]
    return known


@pytest.mark.slow
def test_repositories_that_are_enabled_and_were_read_are_named(
    redhat: Chroot, server: WebServer, tmp_path: Path
) -> None:
    known = publish(server, tmp_path, "/base", "/base/extra")
    repositories = {
        "base": f"baseurl={server.url}/base/",
        "base-extra": f"baseurl={server.url}/base/extra",
        "off": f"baseurl={server.url}/off\nenabled=0",
        "gone": f"baseurl={server.url}/gone\nskip_if_unavailable=1",
    }
    assert dnf_state(redhat, repositories) == known
    assert inputs_repositories.changed(known) == ""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["mirrorlist", "metalink", "baseurl"])
def test_of_several_mirrors_the_one_that_had_the_list_is_named(
    redhat: Chroot, server: WebServer, tmp_path: Path, how: str
) -> None:
    (url, digest), *_ = publish(server, tmp_path, "/good", "/good/other").items()
    server.on("^/dead/", answer(404), always=True)
    mirrors = [f"{server.url}/{name}" for name in ("dead", "good", "good/other")]
    server.put("/mirrorlist", "".join(f"{mirror}/\n" for mirror in mirrors).encode())
    server.put("/metalink", metalink(mirrors, tmp_path / "good/repodata/repomd.xml").encode())
    lines = {"baseurl": f"baseurl={', '.join(mirrors)}"}.get(how, f"{how}={server.url}/{how}")
    assert dnf_state(redhat, {"vendor": lines}) == {url: digest}


def metalink(mirrors: list[str], repomd: Path) -> str:
    """What Fedora's mirror manager answers."""
    sha256 = subprocess.run(["sha256sum", repomd], check=True, capture_output=True, text=True).stdout.split()[0]
    urls = "\n".join(
        f'<url protocol="http" type="http" location="DE" preference="{100 - number}">{url}/repodata/repomd.xml</url>'
        for number, url in enumerate(mirrors)
    )
    return f"""<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/">
 <files>
  <file name="repomd.xml">
   <size>{repomd.stat().st_size}</size>
   <verification>
    <hash type="sha256">{sha256}</hash>
   </verification>
   <resources maxconnections="1">
{urls}
   </resources>
  </file>
 </files>
</metalink>
"""
