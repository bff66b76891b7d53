"""Are the stand-ins what the real things are, as far as the elements and the tools can tell?"""

import ctypes
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from pipelines.inputs import gpg
from pipelines.util.errors import BuildError
from tests.support.paths import ELEMENTS
from tests.support.standins import archive, cache, deb, driver, keys, runfile, ubuntu
from tests.support.standins.deb import Deb
from tests.support.standins.keys import Key


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return keys.make(tmp_path_factory.mktemp("key"), "Somebody <somebody@example.org>")


def test_a_package_holds_its_files_as_a_guest_will_have_them(tmp_path: Path) -> None:
    package = Deb(
        name="thing",
        version="1:2.0-1",
        fields={"Depends": "libc6"},
        files={"/usr/bin/thing": "#!/bin/sh\n", "/etc/thing.conf": "text"},
        links={"/usr/bin/other": "thing"},
        scripts={"postinst": "#!/bin/sh\n"},
    )
    (path,) = deb.build([package], tmp_path)
    assert path.name == "thing_2.0-1_amd64.deb"
    listed = output("dpkg-deb", "--contents", path)
    assert "-rwxr-xr-x root/root" in line_of(listed, "./usr/bin/thing")
    assert "-rw-r--r-- root/root" in line_of(listed, "./etc/thing.conf")
    assert "./usr/bin/other -> thing" in listed
    assert output("dpkg-deb", "--field", path, "Package", "Depends").splitlines() == [
        "Package: thing",
        "Depends: libc6",
    ]


def test_apt_installs_from_the_archive_by_its_own_key_alone(tmp_path: Path, key: Key) -> None:
    built = deb.build([Deb(name="thing", version="1.0-1")], tmp_path / "built")
    archive.publish(tmp_path / "site", [archive.Suite(name="noble", packages=built)], key, origin="Ubuntu")
    stranger = keys.make(tmp_path / "stranger", "Stranger <stranger@example.org>")
    assert "thing/noble 1.0-1" in apt(tmp_path / "ours", tmp_path / "site", key, "noble main")
    assert "thing" not in apt(tmp_path / "theirs", tmp_path / "site", stranger, "noble main")


def test_a_flat_repository_carries_its_vendors_label(tmp_path: Path, key: Key) -> None:
    built = deb.build([Deb(name="thing", version="1.0-1")], tmp_path / "built")
    archive.publish_flat(tmp_path / "site", built, key, label="NVIDIA CUDA")
    assert "Label: NVIDIA CUDA" in (tmp_path / "site/InRelease").read_text()
    assert "thing/" in apt(tmp_path / "ours", tmp_path / "site", key, "/")


def test_checksums_are_signed_as_the_pipeline_checks_them(tmp_path: Path, key: Key) -> None:
    (tmp_path / "sums").write_text("checksums")
    key.sign_detached(tmp_path / "sums", tmp_path / "sums.gpg")
    assert gpg.verify(tmp_path / "sums", tmp_path / "sums.gpg", key.fingerprint, keyring=key.keyring) == b"checksums"
    (tmp_path / "sums").write_text("others")
    with pytest.raises(BuildError, match="changed after it was signed"):
        gpg.verify(tmp_path / "sums", tmp_path / "sums.gpg", key.fingerprint, keyring=key.keyring)


def test_the_libraries_find_no_gpu_as_nvidias_do(tmp_path: Path) -> None:
    answers = {}
    for name, function in (("libcuda", "cuInit"), ("libnvidia-ml", "nvmlInit_v2")):
        files, links = driver.library(name)
        (path,) = files
        deb.write(tmp_path / name, files[path])
        answers[function] = ctypes.CDLL(str(tmp_path / name))[function](0)
        assert Path(path).name == f"{name}.so.{driver.VERSION}"
        assert links == {f"{Path(path).parent}/{name}.so.1": Path(path).name}
    assert answers == {"cuInit": 100, "nvmlInit_v2": 9}


def test_nvidia_smi_fails_without_a_driver() -> None:
    result = subprocess.run(["sh", driver.SOURCE / "nvidia-smi"], capture_output=True, text=True, check=False)
    assert result.returncode == 9
    assert "couldn't communicate with the NVIDIA driver" in result.stdout


@pytest.mark.parametrize("modules", ["open", "proprietary"])
def test_the_source_has_its_version_and_licence_where_the_contract_reads_them(modules: str) -> None:
    files = driver.source_files(version="595.10", modules=modules, dkms="nvidia-srv")
    folder = "/usr/src/nvidia-srv-595.10"
    assert 'PACKAGE_VERSION="595.10"' in files[f"{folder}/dkms.conf"]
    assert 'PACKAGE_NAME="nvidia-srv"' in files[f"{folder}/dkms.conf"]
    for name in ("nvidia", "nvidia-uvm", "nvidia-modeset"):
        assert 'MODULE_VERSION("595.10")' in files[f"{folder}/{name}.c"]
        assert f'MODULE_LICENSE("{driver.LICENCES[modules]}")' in files[f"{folder}/{name}.c"]


def test_the_runfile_refuses_an_option_that_nvidias_installer_does_not_know(tmp_path: Path) -> None:
    path = runfile.runfile(tmp_path)
    result = subprocess.run(["sh", path, "--silent", "--no-such"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert 'unrecognized option: "--no-such"' in result.stderr


def test_the_runfile_holds_both_kinds_of_modules_and_the_libraries(tmp_path: Path) -> None:
    path = runfile.runfile(tmp_path)
    payload = path.read_bytes().split(b"\n__PAYLOAD__\n", 1)[1]
    (tmp_path / "payload").write_bytes(payload)
    with tarfile.open(tmp_path / "payload") as tar:
        names = tar.getnames()
    assert {"open/nvidia.c", "proprietary/nvidia.c", "files/usr/bin/nvidia-smi"} <= set(names)
    assert f"files/usr/lib/x86_64-linux-gnu/libcuda.so.{driver.VERSION}" in names


@pytest.mark.parametrize(
    ("element", "chosen", "offered"),
    [
        ("nvidia-archive", "compute-", ubuntu.archive_packages()),
        ("nvidia-repository", "numbered-compute-", ubuntu.repository_packages()),
        ("nvidia-precompiled", "user-space-", ubuntu.archive_packages()),
        ("target-kernel", "kernel-", ubuntu.archive_packages()),
    ],
)
def test_what_the_elements_ask_ubuntu_for_is_there(element: str, chosen: str, offered: tuple[Deb, ...]) -> None:
    wanted = json.loads((ELEMENTS / element / "pkg-map").read_text())["distro"]["ubuntu"]
    names = [name for key, value in wanted.items() if key.startswith(chosen) for name in value.split()]
    assert names
    assert {name.replace("@BRANCH@", str(ubuntu.BRANCH)) for name in names} <= {package.name for package in offered}


def test_what_takes_long_is_made_once_for_its_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "FOLDER", tmp_path)
    made: list[str] = []

    def make(folder: Path) -> None:
        made.append(folder.name)
        (folder / "content").write_text("text")

    first = cache.made("thing", "inputs", make)
    assert cache.made("thing", "inputs", make) == first
    other = cache.made("thing", "other inputs", make)
    assert len(made) == 2
    assert (other / "content").read_text() == "text"
    assert not first.exists()


def apt(folder: Path, site: Path, key: Key, suite: str) -> str:
    """What an apt of its own finds in an archive on this disk."""
    for name in ("lists/partial", "cache", "etc/apt.conf.d", "etc/preferences.d", "parts"):
        (folder / name).mkdir(parents=True)
    (folder / "status").write_text("")
    (folder / "sources.list").write_text(f"deb [arch=amd64 signed-by={key.keyring}] file:{site} {suite}\n")
    options = {
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc": folder / "etc",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": folder / "parts",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "root",
    }
    argv = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    subprocess.run(["apt-get", *argv, "update"], capture_output=True, check=False)
    return output("apt", *argv, "list", "--all-versions")


def line_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.endswith(f" {name}"))


def output(*argv: str | Path) -> str:
    environment = os.environ | {"LC_ALL": "C"}
    return subprocess.run(argv, capture_output=True, text=True, check=True, env=environment).stdout
