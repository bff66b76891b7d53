"""Elements that install the driver: what they install, and what they refuse."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.chroot import Chroot
from tests.support.paths import DIB_ELEMENTS, ELEMENTS
from tests.support.standins import archive, deb, driver, keys, ubuntu
from tests.support.standins.deb import Deb

pytestmark = pytest.mark.slow

KERNEL = "6.12.1-amd64"
RUNFILE = {"DIB_NVIDIA_MODULES": "open", "DIB_NVIDIA_DESKTOP": "0", "ARCH": "amd64"}


@pytest.fixture
def chroot(tmp_path: Path) -> Chroot:
    made = Chroot(tmp_path)
    made.commands("debian-family")
    made.file(f"/lib/modules/{KERNEL}/modules.dep")
    return made


# --- NVIDIA's repository beside the archive --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's archive and NVIDIA's repository, signed, with the same names in both; and NVIDIA's keyring package."""
    folder = tmp_path_factory.mktemp("repositories")
    key = keys.make(folder / "key", "The tests <tests@example.org>")
    pin = "Package: *nvidia* libcuda*\nPin: version 580.*\nPin-Priority: 1000\n"
    nvidia = [
        Deb(name="libcuda1", version="580.95.05-1"),
        Deb(name="libcuda1", version="590.48-1"),
        Deb(name="cuda-drivers", version="590.48-1"),
        Deb(name="cuda-driver-dev-12-8", version="12.8-1"),
        Deb(name="libcudnn9-cuda-12", version="9.10-1"),
        Deb(
            name="nvidia-driver-pinning-580",
            version="580-1",
            architecture="all",
            files={"/etc/apt/preferences.d/nvidia-driver-pinning-580": pin},
        ),
    ]
    names = {"libcuda1": "600.1-1", "nvidia-smi": "600.1-1", "nvidia-cuda-toolkit": "12.4-1"}
    debian = [Deb(name=name, version=version) for name, version in names.items()]
    suite = archive.Suite(name="trixie", packages=deb.build(debian, folder / "debs/debian"))
    archive.publish(folder / "srv/debian", [suite], key, origin="Debian")
    archive.publish_flat(folder / "srv/nvidia", deb.build(nvidia, folder / "debs/nvidia"), key, label="NVIDIA CUDA")
    (keyring,) = deb.build([ubuntu.keyring_package(key.keyring, "https://other.example.org")], folder / "debs")
    shutil.copy(keyring, folder / "srv/keyring.deb")
    shutil.copy(key.keyring, folder / "srv/debian.gpg")
    return folder / "srv"


@pytest.fixture
def guest(chroot: Chroot, repositories: Path) -> Chroot:
    """A Debian whose archive and NVIDIA's repository are on its own disk."""
    chroot.copy(repositories, "/srv")
    chroot.file("/usr/share/pkg-map/nvidia-packages", (ELEMENTS / "nvidia-packages/pkg-map").read_text())
    chroot.copy(DIB_ELEMENTS / "pkg-map/bin/pkg-map", "/usr/local/bin/pkg-map")
    chroot.commands("nvidia-packages")
    chroot.copy(repositories / "keyring.deb", "/var/tmp/nvidia-keyring")
    return chroot


def candidates(guest: Chroot, tmp_path: Path, source: str, *packages: str, first: str = "true") -> dict[str, str]:
    """Package → the version that apt would install, once NVIDIA's repository is known."""
    script = tmp_path / "phase"
    script.write_text(
        f"""set -e
        rm -rf /etc/apt/sources.list* /etc/apt/preferences.d/*
        mkdir -p /etc/apt/sources.list.d
        echo 'deb [signed-by=/srv/debian.gpg] file:/srv/debian trixie main' > /etc/apt/sources.list
        guest-add-nvidia-repository file:/srv/nvidia
        guest-os read-package-lists
        {first} > /dev/null 2>&1
        apt-cache policy {" ".join(packages)} | sed -n 's/^\\([^ ]*\\):$/\\1/p; s/^  Candidate: //p' | paste - -
        """
    )
    result = guest.run(script, DIB_NVIDIA_SOURCE=source, DISTRO_NAME="debian", DIB_RELEASE="trixie", ARCH="amd64")
    assert result.returncode == 0, result.stdout
    return dict(line.split("\t") for line in result.stdout.splitlines() if line.startswith(packages))


def test_a_driver_from_nvidias_repository_never_mixes_with_the_archives(guest: Chroot, tmp_path: Path) -> None:
    found = candidates(guest, tmp_path, "nvidia-repo", "libcuda1", "nvidia-smi", "nvidia-cuda-toolkit")
    assert found == {"libcuda1": "590.48-1", "nvidia-smi": "(none)", "nvidia-cuda-toolkit": "12.4-1"}


def test_a_pinned_branch_stays_a_branch_of_nvidias_repository(guest: Chroot, tmp_path: Path) -> None:
    pinned = "guest-os install-packages nvidia-driver-pinning-580"
    guest.program("install-packages", 'apt-get -y install "$@"')
    assert candidates(guest, tmp_path, "nvidia-repo", "libcuda1", first=pinned) == {"libcuda1": "580.95.05-1"}


def test_for_a_driver_from_elsewhere_the_repository_gives_cuda_alone(guest: Chroot, tmp_path: Path) -> None:
    found = candidates(
        guest, tmp_path, "archive", "libcuda1", "cuda-drivers", "cuda-driver-dev-12-8", "libcudnn9-cuda-12"
    )
    assert found == {
        "libcuda1": "600.1-1",
        "cuda-drivers": "(none)",
        "cuda-driver-dev-12-8": "12.8-1",
        "libcudnn9-cuda-12": "9.10-1",
    }


def test_the_guest_keeps_nvidias_own_address_and_no_mirror(guest: Chroot, tmp_path: Path) -> None:
    script = tmp_path / "phase"
    script.write_text(
        "rm -rf /etc/apt/sources.list*; mkdir -p /etc/apt/sources.list.d\n"
        "guest-add-nvidia-repository http://mirror.example.org/nvidia\n"
        'guest-add-nvidia-repository ""\n'
        "head /etc/apt/sources.list.d/*; ls /etc/apt/preferences.d\n"
    )
    about = {"DISTRO_NAME": "ubuntu", "DIB_RELEASE": "noble", "ARCH": "arm64", "DIB_NVIDIA_SOURCE": "archive"}
    result = guest.run(script, **about)
    assert "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/sbsa /" in result.stdout
    assert "example.org" not in result.stdout
    assert "cuda-repository-pin-600" not in result.stdout


# --- A folder of packages --------------------------------------------------------------------------------------------


def local(chroot: Chroot, *packages: Deb, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Install a folder of these packages; what apt is asked for is printed."""
    for path in deb.build(packages, folder / "debs"):
        chroot.copy(path, f"/tmp/in_target.d/nvidia-local/{path.name}")
    chroot.program("apt-get", 'echo "apt-get $*"')
    return chroot.run(ELEMENTS / "nvidia-local/install.d/70-install-driver", ARCH="amd64")


def test_all_packages_of_a_folder_are_installed(chroot: Chroot, tmp_path: Path) -> None:
    result = local(chroot, *driver.debian_packages(), folder=tmp_path)
    assert result.returncode == 0, result.stdout
    assert "/tmp/in_target.d/nvidia-local/libcuda1_580.95.05-1_amd64.deb" in result.stdout


def test_a_vgpu_guest_driver_is_one_package_with_all_of_it(chroot: Chroot, tmp_path: Path) -> None:
    grid = Deb(name="nvidia-linux-grid-580", version="580.95.05")  # NVIDIA's name for it, without a revision
    result = local(chroot, grid, folder=tmp_path)
    assert "/tmp/in_target.d/nvidia-local/nvidia-linux-grid-580_580.95.05_amd64.deb" in result.stdout
    assert result.returncode == 0


def test_tools_of_the_folder_may_have_versions_of_their_own(chroot: Chroot, tmp_path: Path) -> None:
    tool = Deb(name="nvidia-container-toolkit", version="1.17.8-1")
    assert local(chroot, *driver.debian_packages(), tool, folder=tmp_path).returncode == 0


def test_a_folder_with_drivers_of_two_versions_is_refused(chroot: Chroot, tmp_path: Path) -> None:
    result = local(
        chroot,
        Deb(name="libcuda1", version="580.95.05-1"),
        Deb(name="nvidia-kernel-dkms", version="570.133.20-1"),
        folder=tmp_path,
    )
    assert result.returncode != 0
    assert "must have one driver version, but it has 2: 570.133.20 580.95.05" in result.stdout
    assert "apt-get" not in result.stdout


def test_a_folder_without_a_driver_is_refused(chroot: Chroot, tmp_path: Path) -> None:
    result = local(chroot, Deb(name="hello", version="1.0-1"), folder=tmp_path)
    assert result.returncode != 0
    assert "must have one driver version" in result.stdout


def test_a_package_for_another_architecture_is_refused(chroot: Chroot, tmp_path: Path) -> None:
    other = Deb(name="nvidia-smi", version="580.95.05-1", architecture="arm64")
    result = local(chroot, *driver.debian_packages()[:3], other, folder=tmp_path)
    assert result.returncode != 0
    assert "nvidia-smi_580.95.05-1_arm64.deb is for arm64, but the guest is amd64" in result.stdout


def copied(tmp_path: Path, phase: str, **environment: Path) -> tuple[int, str, list[str]]:
    """The exit code, output and the files that a phase on the host puts within reach of the chroot."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    variables = {"PATH": "/usr/bin:/bin", "TMP_HOOKS_PATH": str(hooks)}
    variables |= {name: str(path) for name, path in environment.items()}
    result = subprocess.run(
        ["bash", ELEMENTS / phase], env=variables, capture_output=True, text=True, check=False, timeout=30
    )
    return result.returncode, result.stdout, [path.name for path in hooks.rglob("*") if path.is_file()]


def test_only_the_packages_of_a_folder_reach_the_chroot(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    (folder / "below").mkdir(parents=True)
    for name in ("a.deb", "b.rpm", "notes.txt", "below/c.deb"):
        (folder / name).write_text("content")
    phase = "nvidia-local/extra-data.d/20-copy-packages"
    assert sorted(copied(tmp_path, phase, DIB_NVIDIA_LOCAL=folder)[2]) == ["a.deb", "b.rpm"]


@pytest.mark.parametrize(
    ("phase", "variable", "complaint"),
    [
        ("nvidia-local/extra-data.d/20-copy-packages", "DIB_NVIDIA_LOCAL", "there is no .deb or .rpm file in"),
        ("nvidia-runfile/extra-data.d/20-copy-runfile", "DIB_NVIDIA_RUNFILE", "must be the path of a file"),
        ("nvidia-packages/extra-data.d/20-copy-keyring", "DIB_NVIDIA_KEYRING", "must be the path of a file"),
    ],
)
def test_nothing_given_is_reported_before_anything_is_built(
    tmp_path: Path, phase: str, variable: str, complaint: str
) -> None:
    (tmp_path / "empty").mkdir()
    given = tmp_path / "empty" if variable.endswith("LOCAL") else tmp_path / "absent"
    code, output, _ = copied(tmp_path, phase, **{variable: given})
    assert code != 0
    assert complaint in output


# --- A runfile -------------------------------------------------------------------------------------------------------


@pytest.fixture
def installer(chroot: Chroot) -> Chroot:
    """A guest with a runfile that says how it was called."""
    chroot.program("gcc-14", "true")
    chroot.file(f"/boot/config-{KERNEL}", "CONFIG_GCC_VERSION=140200\n")
    chroot.file("/tmp/in_target.d/nvidia-driver.run", 'echo "runfile $* ARCH=${ARCH:-unset} CC=$CC"\n')
    return chroot


INSTALL = ELEMENTS / "nvidia-runfile/install.d/70-install-driver"


def test_a_runfile_compiles_for_the_target_and_without_dibs_arch(installer: Chroot) -> None:
    result = installer.run(INSTALL, **RUNFILE)
    assert result.returncode == 0, result.stdout
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("runfile"))
    assert {"--silent", "--skip-module-load", "--dkms", f"--kernel-name={KERNEL}", "--no-opengl-files"} <= set(
        line.split()
    )
    assert "--kernel-module-type=open" in line
    assert line.endswith("ARCH=unset CC=gcc-14")


@pytest.mark.parametrize(
    ("modules", "option"), [("open", ["--kernel-module-build-directory=kernel-open"]), ("proprietary", [])]
)
def test_an_older_runfile_is_told_its_modules_as_it_knows_them(
    installer: Chroot, modules: str, option: list[str]
) -> None:
    result = installer.run(INSTALL, **{**RUNFILE, "DIB_NVIDIA_MODULES": modules, "DIB_NVIDIA_BRANCH": "550"})
    assert [word for word in result.stdout.split() if word.startswith("--kernel-module")] == option


def test_a_runfile_registers_its_source_with_dkms_which_compiles_later(installer: Chroot) -> None:
    installer.program("dkms", 'echo "dkms was asked to $*"')
    calls = "dkms add -m nvidia; dkms build -m nvidia && dkms install -m nvidia\n"
    installer.file("/tmp/in_target.d/nvidia-driver.run", calls)
    result = installer.run(INSTALL, **RUNFILE)
    assert result.returncode == 0, result.stdout
    assert [line for line in result.stdout.splitlines() if "asked" in line] == ["dkms was asked to add -m nvidia"]


def test_a_runfile_for_a_desktop_keeps_its_opengl(installer: Chroot) -> None:
    result = installer.run(INSTALL, **{**RUNFILE, "DIB_NVIDIA_DESKTOP": "1"})
    assert "--no-opengl-files" not in result.stdout


def test_a_runfile_that_fails_shows_its_log(installer: Chroot) -> None:
    installer.file(
        "/tmp/in_target.d/nvidia-driver.run",
        "echo 'ERROR: Unable to find the kernel source tree' > /var/log/nvidia-installer.log; exit 1\n",
    )
    result = installer.run(INSTALL, **RUNFILE)
    assert result.returncode != 0
    assert "Unable to find the kernel source tree" in result.stdout
    assert f"NVIDIA's installer failed for kernel {KERNEL}" in result.stdout


def test_the_persistence_daemon_has_its_user_and_its_unit(installer: Chroot, tmp_path: Path) -> None:
    installer.copy(ELEMENTS / "nvidia-runfile/static", "/")
    script = tmp_path / "phase"
    script.write_text(f"{INSTALL.read_text()}\ngetent passwd nvidia-persistenced\n")
    result = installer.run(script, **RUNFILE)
    assert "nvidia-persistenced:x:" in result.stdout
    unit = (ELEMENTS / "nvidia-runfile/static/usr/lib/systemd/system/nvidia-persistenced.service").read_text()
    assert "--user nvidia-persistenced" in unit


# --- The family's commands -------------------------------------------------------------------------------------------


def printed(chroot: Chroot, tmp_path: Path, command: str) -> str:
    script = tmp_path / "phase"
    script.write_text(f"{{ {command}; }} 2> /dev/null\n")
    return "\n".join(line for line in chroot.run(script).stdout.splitlines() if not line.startswith("kernel left"))


def test_a_file_leads_to_its_package_and_upstream_version(chroot: Chroot, tmp_path: Path) -> None:
    version = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Version}", "coreutils"], capture_output=True, text=True, check=True
    ).stdout
    expected = f"coreutils {version.split(':')[-1].rsplit('-', 1)[0]}"
    assert (
        printed(chroot, tmp_path, "guest-os package-of /bin/ls; guest-os package-of /usr/bin/ls")
        == f"{expected}\n{expected}"
    )


def test_a_file_of_no_package_is_reported(chroot: Chroot, tmp_path: Path) -> None:
    chroot.file("/usr/bin/nvidia-smi", "program")
    assert printed(chroot, tmp_path, "guest-os package-of /usr/bin/nvidia-smi || echo none") == "none"


def test_held_packages_are_those_whose_names_match(chroot: Chroot, tmp_path: Path) -> None:
    found = printed(chroot, tmp_path, "guest-os hold-packages '^(coreutils|dpkg$)'; guest-os held-packages")
    assert found.splitlines() == ["coreutils", "dpkg"]


def test_a_package_file_tells_name_version_and_architecture(chroot: Chroot, tmp_path: Path) -> None:
    (path,) = deb.build([Deb(name="libcuda1", version="2:580.95.05-1~deb13u1")], tmp_path / "debs")
    chroot.copy(path, "/tmp/a.deb")
    assert printed(chroot, tmp_path, "guest-os package-name /tmp/a.deb; guest-os package-architecture /tmp/a.deb") == (
        "libcuda1 580.95.05\namd64"
    )


def test_the_initramfs_is_made_once_and_by_updates_in_the_guest_again(chroot: Chroot, tmp_path: Path) -> None:
    chroot.file("/usr/sbin/update-initramfs", "#!/bin/bash\necho made >> /made\n")
    script = tmp_path / "phase"
    defer = (ELEMENTS / "debian-family/pre-install.d/05-defer-initramfs").read_text()
    script.write_text(
        f"chmod +x /usr/sbin/update-initramfs\n{defer}\nhash -r; update-initramfs -u; ls /made || true\n"
        f"guest-os make-initramfs {KERNEL}; ls /made; hash -r; update-initramfs -u; wc -l < /made\n"
        "guest-os resume-initramfs; hash -r; update-initramfs -u; wc -l < /made\n"
    )
    result = chroot.run(script)
    assert result.returncode == 0, result.stdout
    assert "'/made': No such file" in result.stdout
    assert re.findall(r"^(?:/made|\d)$", result.stdout, re.MULTILINE) == ["/made", "1", "2"]
