"""Newer versions of an image's packages in its package repositories."""

import bz2
import gzip
import hashlib
import lzma
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipelines.artifacts.manifest import Manifest
from pipelines.catalog.base import Base
from pipelines.catalog.driver import Driver, NvidiaRepository
from pipelines.catalog.variant import Variant
from pipelines.inputs import apt_index, updates
from pipelines.util.errors import BuildError
from tests.support.fakes.web_server import WebServer, answer, instead, serving
from tests.support.host_fixtures import DEAD
from tests.support.ready_image import variant as ready_variant
from tests.support.small_image import VARIANT, manifest
from tests.support.standins import deb, rpm

SUITE, SECURITY, CUDA = "/debian/dists/trixie", "/debian/dists/trixie-security", "/cuda/debian13/x86_64"
MAIN = "main/binary-amd64/Packages"
PACKED: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".xz": lzma.compress,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda content: subprocess.run(["zstd", "-qc"], input=content, capture_output=True, check=True).stdout,
}
FROM_ARCHIVE = replace(VARIANT, driver=None)
FROM_NVIDIA = replace(
    VARIANT, driver=Driver(source="nvidia-repo"), nvidia_repository=NvidiaRepository(keyring_sha256="0" * 64)
)

Packages = Mapping[str, str | Sequence[str]]  # name → version or versions
Outdated = Callable[..., str]  # a build's manifest, and perhaps its variant → what is outdated


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving() as running:
        yield running


def paragraphs(packages: Packages, *, architecture: str = "amd64", more: str = "") -> str:
    """An index: name ("libc6:i386" for another architecture) and version of each package, and what else it says."""
    said = []
    for name, found in packages.items():
        plain, _, other = name.partition(":")
        for version in [found] if isinstance(found, str) else found:
            lines = f"Package: {plain}\nArchitecture: {other or architecture}\nVersion: {version}\n{more}"
            said.append(f"{lines}Depends: other (>= 1)\nDescription: words\n Version: 99\n")
    return "\n".join(said)


@dataclass
class Archive:
    """A Debian archive with one index. `state` is what a build that uses it says of it."""

    server: WebServer
    folder: str = SUITE
    index: str = MAIN
    header: str = "Origin: Debian"
    form: str = ""
    digest: str = field(default="", init=False)

    @property
    def state(self) -> dict[str, str]:
        return {f"{self.server.url}{self.folder}/InRelease {self.index}": self.digest}

    def offers(self, packages: Packages | str) -> dict[str, str]:
        """From now on the archive has these packages; gives its state."""
        text = packages if isinstance(packages, str) else paragraphs(packages)
        files = {self.index: text.encode(), self.index + self.form: PACKED[self.form](text.encode())}
        listed = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        lines = [self.header, "SHA256:", *(f" {sha256} 10 {name}" for name, sha256 in listed.items())]
        self.server.put(f"{self.folder}/InRelease", "\n".join([*lines, ""]).encode())
        self.server.put(f"{self.folder}/{self.index}{self.form}", files[self.index + self.form])
        self.digest = listed[self.index]
        return self.state


def build(archives: Mapping[str, str], packages: Mapping[str, str], **changed: object) -> Manifest:
    """The manifest of a build of these archives."""
    fields: dict[str, object] = {"archives": archives, "packages": packages, "driver": {}} | changed
    return replace(manifest(), **fields)  # type: ignore[arg-type]


@pytest.fixture
def outdated(tmp_path: Path) -> Outdated:
    """`changes.outdated`, with its downloads in a folder of the test's."""

    def ask(made: Manifest, variant: Variant = FROM_ARCHIVE) -> str:
        return updates.outdated(made, variant, tmp_path / "downloads", deadline=5)

    return ask


# What is newer


def test_a_repository_that_has_not_changed_is_asked_once_and_nothing_is_outdated(
    server: WebServer, outdated: Outdated
) -> None:
    known = Archive(server).offers({"bash": "2"})
    assert outdated(build(known, {"bash": "1"})) == ""
    assert [path for _, path, _ in server.seen] == [f"{SUITE}/InRelease"]


def test_what_is_newer_is_named_with_both_versions(server: WebServer, outdated: Outdated) -> None:
    archive = Archive(server)
    known = archive.offers({"linux-image-amd64": "6.12.107-1", "libc6": "2.41-12"})
    archive.offers({"linux-image-amd64": "6.12.110-1", "libc6": "2.41-12"})
    made = build(known, {"libc6:amd64": "2.41-12", "linux-image-amd64": "6.12.107-1"})
    assert outdated(made) == "linux-image-amd64 6.12.107-1 → 6.12.110-1"


def test_a_change_of_packages_that_are_not_in_the_image_makes_nothing_outdated(
    server: WebServer, outdated: Outdated
) -> None:
    archive = Archive(server)
    known = archive.offers({"bash": "1", "emacs": "1"})
    archive.offers({"bash": "1", "emacs": "2", "vim": "1"})
    assert outdated(build(known, {"bash": "1"})) == ""


@pytest.mark.parametrize("offered", ["1.0-1", "1.0~rc1-2", "0.9", ""], ids=["same", "tilde", "older", "none"])
def test_only_what_is_newer_counts(server: WebServer, outdated: Outdated, offered: str) -> None:
    archive = Archive(server)
    known = archive.offers({"bash": "0.1"})
    archive.offers({"bash": offered} if offered else {"dash": "1"})
    assert outdated(build(known, {"bash": "1.0-1"})) == ""


def test_the_newest_of_several_versions_is_the_candidate(server: WebServer, outdated: Outdated) -> None:
    archive, security = Archive(server), Archive(server, SECURITY)
    known = archive.offers({"bash": "1-1"}) | security.offers({})
    archive.offers({"bash": ["1-1", "1-9"]})
    security.offers({"bash": ["1-2", "1-10"]})
    assert outdated(build(known, {"bash": "1-1"})) == "bash 1-1 → 1-10"


def test_the_kernel_and_the_driver_are_named_first_and_the_rest_counted(server: WebServer, outdated: Outdated) -> None:
    archive = Archive(server)
    names = ["apt", "bash", "dash", "libcuda1", "linux-image-amd64", "zsh"]
    known = archive.offers(dict.fromkeys(names, "1"))
    archive.offers(dict.fromkeys(names, "1:0"))
    said = outdated(build(known, dict.fromkeys(names, "1")))
    assert said == "libcuda1 1 → 1:0, linux-image-amd64 1 → 1:0, apt 1 → 1:0 and 3 more"


def test_a_package_is_compared_with_those_of_its_architecture(server: WebServer, outdated: Outdated) -> None:
    archive = Archive(server)
    known = archive.offers({})
    archive.offers({"libc6:i386": "9", "libc6": "2", "bash:i386": "9", "tzdata:all": "2"})
    made = build(known, {"libc6:amd64": "1", "libc6:i386": "9", "bash": "1", "tzdata": "1"})
    assert outdated(made) == "libc6 1 → 2, tzdata 1 → 2"


def test_an_index_that_is_gone_offers_nothing(server: WebServer, outdated: Outdated) -> None:
    archive = Archive(server)
    known = archive.offers({"bash": "1"})
    server.put(f"{SUITE}/InRelease", f"SHA256:\n {'0' * 64} 10 other/binary-amd64/Packages\n".encode())
    assert outdated(build(known, {"bash": "1"})) == ""


def test_an_imported_image_has_no_repository(outdated: Outdated, tmp_path: Path) -> None:
    assert outdated(build({}, {}), ready_variant(tmp_path / "windows.qcow2")) == ""


# What is read


@pytest.mark.parametrize("form", PACKED)
def test_an_index_is_read_in_any_form(server: WebServer, outdated: Outdated, form: str) -> None:
    archive = Archive(server, form=form)
    known = archive.offers({"bash": "1"})
    archive.offers({"bash": "2"})
    if form:
        server.on(f"{MAIN}$", answer(404))  # archives list it, and have it packed alone
    assert outdated(build(known, {"bash": "1"})) == "bash 1 → 2"


def test_a_repository_with_indexes_by_digest_is_asked_for_those(server: WebServer, outdated: Outdated) -> None:
    archive = Archive(server, header="Acquire-By-Hash: yes")
    known = archive.offers({"bash": "1"})
    archive.offers({"bash": "2"})
    content = server.files.pop(f"{SUITE}/{MAIN}")
    server.put(f"{SUITE}/main/binary-amd64/by-hash/SHA256/{archive.digest}", content)
    assert outdated(build(known, {"bash": "1"})) == "bash 1 → 2"


def test_an_index_is_downloaded_once_for_all_images(server: WebServer, outdated: Outdated) -> None:
    archive = Archive(server)
    known = archive.offers({"bash": "1"})
    archive.offers({"bash": "2"})
    assert [outdated(build(known, {"bash": version})) for version in "12"] == ["bash 1 → 2", ""]
    assert len(server.got(f"{SUITE}/{MAIN}")) == 1


def test_a_large_index_is_read_in_no_time() -> None:
    words = "Description: a package that stands for all the others of its kind\n" * 12
    content = paragraphs({f"package-{number}": f"{number}-1" for number in range(10000)}, more=words).encode()
    began = time.process_time()
    assert len(apt_index.read(content)) == 10000
    assert time.process_time() - began < 0.5  # measured: 0.07 s; 0.4 s for 60,000, as many as Debian's main has


def test_a_repository_that_apt_itself_indexed_is_read(tmp_path: Path, outdated: Outdated) -> None:
    def publish(version: str) -> None:
        deb.build([deb.Deb(name="gpu-tool", version=version)], tmp_path / "flat")
        for argv, name in ((["packages", "."], "Packages"), (["release", "."], "Release")):
            said = subprocess.run(["apt-ftparchive", *argv], cwd=tmp_path / "flat", capture_output=True, check=True)
            (tmp_path / "flat" / name).write_bytes(said.stdout)

    publish("1.0-1")
    digest = hashlib.sha256((tmp_path / "flat/Packages").read_bytes()).hexdigest()
    made = build({f"file:{tmp_path}/flat/Release Packages": digest}, {"gpu-tool": "1.0-1"})
    assert outdated(made) == ""
    publish("1.0-2")
    assert outdated(made) == "gpu-tool 1.0-1 → 1.0-2"


@pytest.mark.parametrize("wrong", ["", "x:1", "not_a_version"], ids=["none", "epoch", "letters"])
def test_an_invalid_version_is_ignored_with_one_warning(
    server: WebServer, outdated: Outdated, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    archive, name = Archive(server), f"broken{len(wrong)}"
    known = archive.offers({})
    archive.offers({name: wrong, "bash": ["2", wrong]})
    for _ in range(2):
        assert outdated(build(known, {name: "1", "bash": "1", "odd": wrong})) == "bash 1 → 2"
    assert capsys.readouterr().err.count(f"{name}: {wrong!r} is not a valid version") == 1


# Whom apt prefers


@pytest.mark.parametrize("header", ["NotAutomatic: yes", "NotAutomatic: yes\nButAutomaticUpgrades: yes"])
def test_backports_are_no_candidates(server: WebServer, outdated: Outdated, header: str) -> None:
    archive, backports = Archive(server), Archive(server, f"{SUITE}-backports", header=header)
    known = archive.offers({"bash": "1"}) | backports.offers({})
    backports.offers({"bash": "2~bpo13+1", "only-here": "2"})
    assert outdated(build(known, {"bash": "1", "only-here": "1"})) == "only-here 1 → 2"


def test_what_only_some_users_get_as_yet_does_not_count(server: WebServer, outdated: Outdated) -> None:
    archive = Archive(server)
    known = archive.offers({})
    phases = {"some": "10", "everybody": "100"}
    archive.offers("\n".join(paragraphs({n: "2"}, more=f"Phased-Update-Percentage: {p}\n") for n, p in phases.items()))
    assert outdated(build(known, dict.fromkeys(phases, "1"))) == "everybody 1 → 2"


def test_what_an_unchanged_index_has_was_left_out_for_a_reason(server: WebServer, outdated: Outdated) -> None:
    archive, security = Archive(server), Archive(server, SECURITY)
    known = archive.offers({"held-back": "2"}) | security.offers({"bash": "1"})
    security.offers({"bash": "2"})
    assert outdated(build(known, {"held-back": "1", "bash": "1"})) == "bash 1 → 2"
    assert server.got(f"{SUITE}/{MAIN}") == []


# NVIDIA's repository and the driver


@dataclass
class Both:
    """The archive, and NVIDIA's repository at the variant's address, both as a build found them."""

    archive: Archive
    nvidia: Archive
    variant: Variant

    def with_driver(self, **fields: object) -> Variant:
        return replace(self.variant, driver=Driver(source="nvidia-repo", **fields))  # type: ignore[arg-type]


@pytest.fixture
def both(server: WebServer) -> Both:
    repository = NvidiaRepository(keyring_sha256="0" * 64, url=server.url + CUDA)
    return Both(
        archive=Archive(server),
        nvidia=Archive(server, CUDA, index="Packages", header="Origin: NVIDIA"),
        variant=replace(FROM_NVIDIA, nvidia_repository=repository),
    )


DRIVER = {"nvidia-kernel-open-dkms": "580.95.05-1", "nvidia-driver-cuda": "580.95.05-1"}


def with_driver(archives: Mapping[str, str], more: Mapping[str, str] | None = None) -> Manifest:
    return build(archives, DRIVER | dict(more or {}), driver={"version": "580.95.05", "source": "nvidia-repo"})


def test_the_distributions_driver_is_no_candidate_for_nvidias(both: Both, outdated: Outdated) -> None:
    known = both.archive.offers({}) | both.nvidia.offers(DRIVER)
    both.archive.offers(dict.fromkeys([*DRIVER, "nvidia-modprobe", "bash"], "999-1"))
    made = with_driver(known, {"nvidia-modprobe": "1-1", "bash": "1-1"})
    assert outdated(made, both.variant) == "bash 1-1 → 999-1"


def test_a_driver_is_compared_within_the_branch_that_was_chosen_for_it(both: Both, outdated: Outdated) -> None:
    assert both.variant.selection is not None
    branch = both.variant.selection.branch
    known = both.nvidia.offers({})
    both.nvidia.offers({"nvidia-driver-cuda": [f"{branch}.2.1-1", "9999.1-1"]})
    made = build(known, {"nvidia-driver-cuda": f"{branch}.1.1-1"}, driver={"version": f"{branch}.1.1"})
    assert outdated(made, both.variant) == f"nvidia-driver-cuda {branch}.1.1-1 → {branch}.2.1-1"


def test_a_driver_is_compared_within_the_branch_that_is_asked_for(both: Both, outdated: Outdated) -> None:
    known = both.nvidia.offers(DRIVER)
    both.nvidia.offers({"nvidia-driver-cuda": ["580.105.08-1", "590.1-1"], "nvidia-kernel-open-dkms": "590.1-1"})
    said = outdated(with_driver(known), both.with_driver(branch=580))
    assert said == "nvidia-driver-cuda 580.95.05-1 → 580.105.08-1"


def test_a_driver_of_an_exact_version_is_never_outdated_by_another(both: Both, outdated: Outdated) -> None:
    known = both.nvidia.offers(DRIVER)
    both.nvidia.offers({"nvidia-driver-cuda": ["580.105.08-1", "580.95.05-1"], "nvidia-kernel-open-dkms": "590.1-1"})
    assert outdated(with_driver(known), both.with_driver(version="580.95.05")) == ""


def test_what_is_no_part_of_the_driver_is_free_of_its_pin(both: Both, outdated: Outdated) -> None:
    known = both.nvidia.offers(DRIVER)
    both.nvidia.offers(DRIVER | {"cuda-toolkit-12-8": "12.8.2-1"})
    made = with_driver(known, {"cuda-toolkit-12-8": "12.8.1-1"})
    assert outdated(made, both.with_driver(version="580.95.05")) == "cuda-toolkit-12-8 12.8.1-1 → 12.8.2-1"


def test_a_driver_out_of_a_file_is_not_compared(server: WebServer, outdated: Outdated, tmp_path: Path) -> None:
    archive = Archive(server)
    known = archive.offers({})
    archive.offers(dict.fromkeys(DRIVER, "590.1-1"))
    local = replace(VARIANT, driver=Driver(source="local", path=tmp_path))
    assert outdated(with_driver(known), local) == ""


def test_with_the_distributions_driver_nvidias_is_no_candidate(both: Both, outdated: Outdated) -> None:
    known = both.archive.offers(DRIVER) | both.nvidia.offers({})
    both.nvidia.offers(dict.fromkeys(DRIVER, "590.1-1") | {"nvidia-container-toolkit": "1.18.1-1"})
    variant = replace(both.variant, driver=Driver(source="archive"))
    made = with_driver(known, {"nvidia-container-toolkit": "1.18.0-1"})
    assert outdated(made, variant) == "nvidia-container-toolkit 1.18.0-1 → 1.18.1-1"


def test_an_unchanged_repository_of_nvidias_still_comes_before_the_distributions(
    both: Both, outdated: Outdated
) -> None:
    known = both.archive.offers({}) | both.nvidia.offers({"shared-tool": "1"})
    both.archive.offers({"shared-tool": "2", "bash": "2"})
    assert outdated(with_driver(known, {"shared-tool": "1", "bash": "1"}), both.variant) == "bash 1 → 2"


def test_libraries_are_compared_with_those_for_the_same_cuda(both: Both, outdated: Outdated) -> None:
    known = both.nvidia.offers({})
    both.nvidia.offers({"libnccl2": ["2.28.3-1+cuda13.0", "2.28.3-1+cuda12.9"]})
    made = with_driver(known, {"libnccl2": "2.27.3-1+cuda12.9"})
    assert outdated(made, both.variant) == "libnccl2 2.27.3-1+cuda12.9 → 2.28.3-1+cuda12.9"


# rpm

BASEOS = "/rocky/9/BaseOS/x86_64/os"
ROCKY = replace(
    FROM_ARCHIVE,
    base=Base(distribution="rocky", release="9", source="cloud-image", path=Path("/r.qcow2"), signature="none"),
)


def repository(server: WebServer, packages: Sequence[str], *, kind: str = "sha256") -> dict[str, str]:
    """A repository of packages ("name arch epoch version release"), as createrepo_c writes it; its state."""
    form = '<package type="rpm"><name>{}</name><arch>{}</arch><version epoch="{}" ver="{}" rel="{}"/></package>'
    primary = "".join(form.format(*package.split()) for package in packages)
    content = gzip.compress(f"<metadata>{primary}</metadata>".encode())
    digest = hashlib.sha256(content).hexdigest()
    server.put(f"{BASEOS}/repodata/{digest}-primary.xml.gz", content)
    listed = f'<checksum type="{kind}">{digest}</checksum><location href="repodata/{digest}-primary.xml.gz"/>'
    namespace = "http://linux.duke.edu/metadata/repo"
    repomd = f'<repomd xmlns="{namespace}"><data type="primary">{listed}</data></repomd>'.encode()
    url = server.put(f"{BASEOS}/repodata/repomd.xml", repomd)
    return {f"{url} -": hashlib.sha256(repomd).hexdigest()}


def rocky(archives: Mapping[str, str], packages: Mapping[str, str]) -> Manifest:
    base = {"distribution": "rocky", "release": "9", "architecture": "amd64"}
    return build(archives, packages, base=base)


def test_an_rpm_that_is_newer_is_named(server: WebServer, outdated: Outdated) -> None:
    known = repository(server, [])
    kernels = ["kernel-core x86_64 0 5.14.0 70.el9", "kernel-core x86_64 0 5.14.0 570.el9"]
    repository(server, [*kernels, "bash aarch64 0 9 9", "bash x86_64 0 5.1.8 9.el9", "tz noarch 1 1 1"])
    made = rocky(known, {"kernel-core": "5.14.0-427.el9", "bash": "5.1.8-9.el9", "tz": "2-1"})
    assert outdated(made, ROCKY) == "kernel-core 5.14.0-427.el9 → 5.14.0-570.el9, tz 2-1 → 1:1-1"


def test_an_rpm_whose_epoch_is_no_number_is_left_out(server: WebServer, outdated: Outdated) -> None:
    known = repository(server, [])
    repository(server, ["tz noarch first 9 9", "bash x86_64 0 9 9"])
    assert outdated(rocky(known, {"tz": "2-1", "bash": "1-1"}), ROCKY) == "bash 1-1 → 9-9"


def test_a_package_of_some_module_is_no_candidate(server: WebServer, outdated: Outdated) -> None:
    known = repository(server, [])
    repository(server, ["perl x86_64 4 5.40 1.module+el9.4.0+1+ab"])
    assert outdated(rocky(known, {"perl": "4:5.32-1.el9"}), ROCKY) == ""


@pytest.mark.slow
def test_a_repository_that_createrepo_indexed_is_read(server: WebServer, outdated: Outdated, tmp_path: Path) -> None:
    server.put(BASEOS, tmp_path / "os")
    rpm.publish(tmp_path / "os", rpm.build([rpm.Rpm(name="gpu-tool", version="1.9", epoch=2)], tmp_path / "built"))
    url = f"{server.url}{BASEOS}/repodata/repomd.xml"
    digest = hashlib.sha256((tmp_path / "os/repodata/repomd.xml").read_bytes()).hexdigest()
    made = rocky({f"{url} -": digest}, {"gpu-tool": "2:1.9-1"})
    assert outdated(made, ROCKY) == ""
    rpm.publish(tmp_path / "os", rpm.build([rpm.Rpm(name="gpu-tool", version="1.10", epoch=2)], tmp_path / "built"))
    assert outdated(made, ROCKY) == "gpu-tool 2:1.9-1 → 2:1.10-1"


# Repositories that cannot be checked


def refused(outdated: Outdated, made: Manifest, variant: Variant = FROM_ARCHIVE) -> str:
    """What is said of an archive that cannot be checked."""
    with pytest.raises(BuildError) as caught:
        outdated(made, variant)
    assert "age" in caught.value.remedy or "Build it again" in caught.value.remedy
    return str(caught.value)


def test_a_repository_that_does_not_answer_is_an_error(outdated: Outdated) -> None:
    made = build({f"{DEAD}/dists/trixie/InRelease {MAIN}": "a" * 64}, {"bash": "1"})
    assert refused(outdated, made) == f"{DEAD}/dists/trixie cannot be checked: Connection refused"


@pytest.mark.parametrize("first", [True, False], ids=["the first", "the last"])
def test_one_that_does_not_answer_does_not_hide_updates_in_the_others(
    server: WebServer, outdated: Outdated, first: bool
) -> None:
    archive, dead = Archive(server), {f"{DEAD}/cuda/InRelease Packages": "a" * 64}
    answers = archive.offers({"bash": "1"})
    known = dead | answers if first else answers | dead
    assert refused(outdated, build(known, {"bash": "1"})) == f"{DEAD}/cuda cannot be checked: Connection refused"
    archive.offers({"bash": "2"})
    assert outdated(build(known, {"bash": "1"})) == "bash 1 → 2"


def test_one_whose_index_cannot_be_read_does_not_hide_updates_in_the_others(
    server: WebServer, outdated: Outdated
) -> None:
    archive, broken = Archive(server), Archive(server, SECURITY)
    known = broken.offers({}) | archive.offers({})
    archive.offers({"bash": "2"})
    broken.offers({"dash": "2"})
    server.on(f"{SECURITY}/{MAIN}$", answer(404), always=True)
    assert outdated(build(known, {"bash": "1", "dash": "1"})) == "bash 1 → 2"
    assert len(server.got(f"{SECURITY}/{MAIN}")) == 1
    assert "404" in refused(outdated, build(known, {"dash": "1"}))


def test_an_index_that_cannot_be_read_is_an_error(server: WebServer, outdated: Outdated) -> None:
    archive = Archive(server)
    known = archive.offers({"bash": "1"})
    archive.offers({"bash": "2"})
    server.on(f"{MAIN}$", answer(404), always=True)
    said = refused(outdated, build(known, {"bash": "1"}))
    assert said.startswith(f"{server.url}{SUITE} cannot be checked: ")
    assert "404" in said


def test_an_index_with_another_digest_is_an_error(server: WebServer, outdated: Outdated) -> None:
    archive = Archive(server)
    known = archive.offers({"bash": "1"})
    archive.offers({"bash": "2"})
    server.on(f"{MAIN}$", instead(b"<html>Please log in</html>"), always=True)
    assert "is not the expected file" in refused(outdated, build(known, {"bash": "1"}))


def test_an_index_that_is_damaged_is_an_error(server: WebServer, outdated: Outdated) -> None:
    known = {f"{server.url}{SUITE}/InRelease {MAIN}.xz": "a" * 64}
    content = lzma.compress(paragraphs({"bash": "2"}).encode())[:-9]
    server.put(f"{SUITE}/{MAIN}.xz", content)
    listed = f"SHA256:\n {hashlib.sha256(content).hexdigest()} 10 {MAIN}.xz\n"
    server.put(f"{SUITE}/InRelease", listed.encode())
    assert "Packages.xz is damaged" in refused(outdated, build(known, {"bash": "1"}))


def test_a_repository_without_a_digest_that_we_know_is_an_error(server: WebServer, outdated: Outdated) -> None:
    known = repository(server, [])
    repository(server, ["bash x86_64 0 9 9"], kind="md5")
    assert "lists no package index with a sha256" in refused(outdated, rocky(known, {"bash": "1-1"}), ROCKY)


def test_a_build_that_does_not_say_where_it_is_from_is_an_error(outdated: Outdated) -> None:
    assert "was built from are not recorded" in refused(outdated, build({}, {"bash": "1"}))
