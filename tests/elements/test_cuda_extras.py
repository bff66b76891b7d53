"""CUDA, containers, fabric manager and vGPU: the right version, or a build that fails.

The package manager and the vendors' programs are fakes; DIB's pkg-map, our maps and our guest-* commands are real.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.chroot import MODINFO, Chroot
from tests.support.paths import DIB_ELEMENTS, ELEMENTS

DRIVER = "580.95.05"


class Guest:
    """A chroot with repositories: `offers` is package → versions, the newest first, as apt says them."""

    def __init__(self, chroot: Chroot, family: str = "debian") -> None:
        self.chroot = chroot
        for command in (*(ELEMENTS / f"{family}-family/bin").iterdir(), *(ELEMENTS / "nvidia-driver/bin").iterdir()):
            chroot.program(command.name, command.read_text())
        chroot.program("pkg-map", 'exec python3 /usr/local/sbin/pkg-map.py "$@"')
        chroot.file("/usr/local/sbin/pkg-map.py", (DIB_ELEMENTS / "pkg-map/bin/pkg-map").read_text())
        for element in ("cuda-toolkit", "cuda-libraries", "container-toolkit", "fabric-manager"):
            chroot.file(f"/usr/share/pkg-map/{element}", (ELEMENTS / element / "pkg-map").read_text())
        chroot.program("install-packages", 'echo "installing $*"')
        chroot.program("apt-mark", 'echo "apt-mark $*"')
        chroot.program("systemctl", 'echo "systemctl $*"')
        self.installed()
        self.offers({})

    def offers(self, packages: dict[str, list[str]]) -> None:
        """What apt finds in its repositories."""
        lines = "\n".join(f" {name} | {each} | http://repo.example x" for name in packages for each in packages[name])
        self.chroot.file("/var/lib/madison", lines + "\n")
        self.chroot.program("apt-cache", 'sed -n "s/^ \\($2 |\\)/ \\1/p" /var/lib/madison')

    def installed(self, *names: str) -> None:
        """What dpkg lists as installed."""
        lines = "\n".join(f"installed {name}" for name in names)
        self.chroot.program("dpkg-query", f"cat <<'EOF'\n{lines}\nEOF")

    def toolkit(self, release: str) -> None:
        """An nvcc that compiles anything."""
        self.chroot.program(
            "nvcc", f'[ "$1" != --version ] || echo "Cuda compilation tools, release {release}, V{release}.1"'
        )
        major, _, _ = release.partition(".")
        self.chroot.program("ldconfig", f"echo '\tlibcudart.so.{major} (libc6,x86-64) => /x'")
        self.chroot.file("/etc/profile.d/cuda.sh", "")

    def run(self, phase: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        common = {"DISTRO_NAME": "debian", "DIB_RELEASE": "trixie"}
        return self.chroot.run(ELEMENTS / phase, **{**common, **environment})


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(Chroot(tmp_path))


def printed(result: "subprocess.CompletedProcess[str]", *, fails: bool = False) -> str:
    assert (result.returncode != 0) == fails, result.stdout
    return result.stdout


# --- cuda-toolkit ---------------------------------------------------------------------------------------------------

INSTALL_TOOLKIT = "cuda-toolkit/install.d/75-install-toolkit"
CHECK_TOOLKIT = "cuda-toolkit/post-install.d/80-check-toolkit"
WRITE_PATHS = "cuda-toolkit/post-install.d/75-write-paths"


@pytest.mark.parametrize(
    ("distribution", "toolkit", "package"),
    [
        ("debian", "archive", "nvidia-cuda-toolkit"),
        ("ubuntu", "archive", "nvidia-cuda-toolkit"),
        ("debian", "12.8", "cuda-toolkit-12-8"),
        ("ubuntu", "13.0", "cuda-toolkit-13-0"),
        ("rocky", "12.8", "cuda-toolkit-12-8"),
        ("almalinux", "12.8", "cuda-toolkit-12-8"),
    ],
)
def test_the_toolkit_that_is_asked_for_is_installed(
    guest: Guest, distribution: str, toolkit: str, package: str
) -> None:
    result = guest.run(INSTALL_TOOLKIT, DIB_CUDA_TOOLKIT=toolkit, DISTRO_NAME=distribution)
    assert f"installing {package}\n" in printed(result)


def test_a_distribution_without_a_toolkit_of_its_own_is_an_error(guest: Guest) -> None:
    result = guest.run(INSTALL_TOOLKIT, DIB_CUDA_TOOLKIT="archive", DISTRO_NAME="rocky")
    assert "the package repository of rocky has no CUDA toolkit" in printed(result, fails=True)


def test_a_toolkit_that_is_no_version_is_refused(guest: Guest) -> None:
    assert "not 'newest'" in printed(guest.run(INSTALL_TOOLKIT, DIB_CUDA_TOOLKIT="newest"), fails=True)


def test_an_nvcc_of_another_version_is_refused(guest: Guest) -> None:
    guest.toolkit("13.0")
    result = guest.run(CHECK_TOOLKIT, DIB_CUDA_TOOLKIT="12.8")
    assert "nvcc is of CUDA 13.0, but 12.8 was requested" in printed(result, fails=True)


@pytest.mark.parametrize("toolkit", ["archive", "12.8"])
def test_an_nvcc_that_cannot_compile_fails_the_build(guest: Guest, toolkit: str) -> None:
    guest.toolkit("12.8")
    guest.chroot.program("nvcc", '[ "$1" = --version ] && echo "release 12.8, V12.8.1" || { echo "no gcc"; exit 1; }')
    assert "no gcc" in printed(guest.run(CHECK_TOOLKIT, DIB_CUDA_TOOLKIT=toolkit), fails=True)


def test_a_runtime_that_the_loader_does_not_find_fails_the_build(guest: Guest) -> None:
    guest.toolkit("12.8")
    guest.chroot.program("ldconfig", "echo '\tlibcudart.so.13 (libc6,x86-64) => /x'")
    result = guest.run(CHECK_TOOLKIT, DIB_CUDA_TOOLKIT="12.8")
    assert "does not find libcudart of CUDA 12" in printed(result, fails=True)


def test_all_of_the_toolkit_is_held_and_nothing_else(guest: Guest) -> None:
    guest.toolkit("12.8")
    ours = ("cuda-toolkit-12-8", "cuda-toolkit-12-8-config-common", "libcublas-dev-12-8", "nvidia-cuda-dev")
    guest.installed(*ours, "bash", "cuda-keyring", "libcublas-13-0")
    result = guest.run(CHECK_TOOLKIT, DIB_CUDA_TOOLKIT="12.8")
    assert f"apt-mark hold {' '.join(sorted(ours))}\n" in printed(result)


def test_a_login_shell_finds_nvidias_nvcc_and_no_library_path(guest: Guest) -> None:
    guest.chroot.program("readlink", "echo /usr/local/cuda-12.8")
    guest.chroot.program("ldconfig", "cat /etc/ld.so.conf.d/cuda.conf /etc/profile.d/cuda.sh 2> /dev/null || true")
    guest.chroot.program("chmod", "cat /etc/ld.so.conf.d/cuda.conf; . $2; . $2; echo HOME=$CUDA_HOME PATH=$PATH")
    shown = printed(guest.run(WRITE_PATHS, DIB_CUDA_TOOLKIT="12.8"))
    assert "/usr/local/cuda/lib64\n" in shown
    assert "HOME=/usr/local/cuda PATH=" in shown
    assert shown.strip().split("\nkernel left")[0].endswith("/sbin:/bin:/usr/local/cuda/bin")


def test_a_cuda_link_to_another_version_fails_the_build(guest: Guest) -> None:
    guest.chroot.program("readlink", "echo /usr/local/cuda-13.0")
    result = guest.run(WRITE_PATHS, DIB_CUDA_TOOLKIT="12.8")
    assert "leads to /usr/local/cuda-13.0, but CUDA 12.8 was requested" in printed(result, fails=True)


# --- cuda-libraries -------------------------------------------------------------------------------------------------

INSTALL_LIBRARIES = "cuda-libraries/post-install.d/81-install-libraries"
CHECK_LIBRARIES = "cuda-libraries/post-install.d/82-check-libraries"
BOTH = {"DIB_CUDA_CUDNN": "1", "DIB_CUDA_NCCL": "1"}


def test_libraries_are_the_newest_for_the_toolkits_cuda(guest: Guest) -> None:
    guest.toolkit("12.8")
    nccl = ["2.28.3-1+cuda13.0", "2.27.7-1+cuda12.9", "2.27.7-1+cuda12.8"]
    cudnn = ["9.13.0.50-1", "9.12.0.46-1"]
    guest.offers({"libnccl2": nccl, "libcudnn9-cuda-12": cudnn, "libcudnn9-cuda-13": ["9.13.0.50-1"]})
    shown = printed(guest.run(INSTALL_LIBRARIES, **BOTH))
    assert "installing libcudnn9-cuda-12=9.13.0.50-1 libcudnn9-dev-cuda-12=9.13.0.50-1\n" in shown
    assert "installing libnccl2=2.27.7-1+cuda12.9 libnccl-dev=2.27.7-1+cuda12.9\n" in shown


def test_rockys_libraries_are_found_by_their_own_names(tmp_path: Path) -> None:
    guest = Guest(Chroot(tmp_path), family="redhat")
    guest.toolkit("12.8")
    answer = '[[ "$*" != *" libnccl" ]] || printf "0:2.28.3-1+cuda13.0\\n0:2.27.7-1+cuda12.9\\n"'
    guest.chroot.program("dnf", f'[ "$2" = repoquery ] || exit 1; {answer}')
    result = guest.run(INSTALL_LIBRARIES, DISTRO_NAME="rocky", DIB_CUDA_CUDNN="0", DIB_CUDA_NCCL="1")
    assert "installing libnccl-0:2.27.7-1+cuda12.9 libnccl-devel-0:2.27.7-1+cuda12.9\n" in printed(result)


def test_the_archives_nccl_serves_the_archives_toolkit(guest: Guest) -> None:
    guest.toolkit("12.4")
    guest.offers({"libnccl2": ["2.22.3-1-1"]})
    shown = printed(guest.run(INSTALL_LIBRARIES, DIB_CUDA_CUDNN="0", DIB_CUDA_NCCL="1"))
    assert "installing libnccl2=2.22.3-1-1 libnccl-dev=2.22.3-1-1\n" in shown


def test_a_library_that_no_repository_has_for_this_cuda_is_refused(guest: Guest) -> None:
    guest.toolkit("11.8")
    guest.offers({"libcudnn9-cuda-12": ["9.13.0.50-1"], "libnccl2": ["2.28.3-1+cuda13.0"]})
    shown = printed(guest.run(INSTALL_LIBRARIES, **BOTH), fails=True)
    assert "no package repository has libcudnn9-cuda-11 for CUDA 11" in shown
    only_nccl = guest.run(INSTALL_LIBRARIES, DIB_CUDA_CUDNN="0", DIB_CUDA_NCCL="1")
    assert "no package repository has libnccl2 for CUDA 11" in printed(only_nccl, fails=True)


def with_libraries(guest: Guest, nccl_for: str) -> None:
    guest.toolkit("12.8")
    known = "\tlibcudnn.so.9 (libc6,x86-64) => /opt/libcudnn.so.9\n\tlibnccl.so.2 (libc6) => /opt/libnccl.so.2"
    guest.chroot.program("ldconfig", f"echo '{known}'")
    guest.chroot.file("/opt/libnccl.so.2", f"\0\0NCCL version 2.27.7+cuda{nccl_for}\0")
    guest.installed("libcudnn9-cuda-12", "libnccl2", "bash")


def test_libraries_for_the_toolkit_are_found_and_held(guest: Guest) -> None:
    with_libraries(guest, nccl_for="12.9")
    shown = printed(guest.run(CHECK_LIBRARIES, **BOTH))
    assert "apt-mark hold libcudnn9-cuda-12\n" in shown
    assert "apt-mark hold libnccl2\n" in shown


def test_an_nccl_for_another_cuda_fails_the_build(guest: Guest) -> None:
    with_libraries(guest, nccl_for="13.0")
    assert "NCCL version 2.27.7+cuda13, but the toolkit is CUDA 12" in printed(
        guest.run(CHECK_LIBRARIES, **BOTH), fails=True
    )


def test_a_library_that_the_loader_does_not_find_fails_the_build(guest: Guest) -> None:
    guest.toolkit("12.8")
    assert "the loader does not find libcudnn.so.9" in printed(guest.run(CHECK_LIBRARIES, **BOTH), fails=True)


# --- container-toolkit ----------------------------------------------------------------------------------------------

INSTALL_ENGINE = "container-toolkit/install.d/80-install-engine"
CONFIGURE_ENGINE = "container-toolkit/post-install.d/81-configure-engine"
DESCRIBE_GPUS = "container-toolkit/post-install.d/80-describe-gpus"
TOOLKIT = {"nvidia-container-toolkit": ["1.18.1-1"]}


@pytest.mark.parametrize(
    ("distribution", "engine", "package"),
    [
        ("debian", "docker", "docker.io"),
        ("ubuntu", "podman", "podman"),
        ("rocky", "podman", "podman"),
        ("almalinux", "podman", "podman"),
    ],
)
def test_the_distributions_engine_and_nvidias_toolkit_are_installed(
    guest: Guest, distribution: str, engine: str, package: str
) -> None:
    guest.offers(TOOLKIT)
    result = guest.run(INSTALL_ENGINE, DIB_CONTAINER_ENGINE=engine, DISTRO_NAME=distribution)
    assert f"installing {package} nvidia-container-toolkit\n" in printed(result)


def test_docker_is_refused_where_the_distribution_has_none(guest: Guest) -> None:
    guest.offers(TOOLKIT)
    result = guest.run(INSTALL_ENGINE, DIB_CONTAINER_ENGINE="docker", DISTRO_NAME="rocky")
    assert "rocky has no package of the container engine docker\nRemedy: set containers: podman" in printed(
        result, fails=True
    )


def test_containers_without_nvidias_repository_are_refused(guest: Guest) -> None:
    result = guest.run(INSTALL_ENGINE, DIB_CONTAINER_ENGINE="podman")
    assert "no package repository has nvidia-container-toolkit" in printed(result, fails=True)


def nvidia_ctk(guest: Guest, settings: dict[str, object]) -> None:
    """nvidia-ctk as 1.18 answers to `runtime configure`: it writes Docker's settings."""
    write = f"mkdir -p /etc/docker; cat > /etc/docker/daemon.json <<'EOF'\n{json.dumps(settings, indent=4)}\nEOF"
    guest.chroot.program("nvidia-ctk", f'echo "nvidia-ctk $*"\n{write}')


RUNTIMES = {"runtimes": {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}}


def test_docker_knows_the_nvidia_runtime_and_starts_at_boot(guest: Guest) -> None:
    nvidia_ctk(guest, RUNTIMES)
    guest.installed("nvidia-container-toolkit", "libnvidia-container1", "docker.io")
    shown = printed(guest.run(CONFIGURE_ENGINE, DIB_CONTAINER_ENGINE="docker"))
    assert "runtime configure --runtime=docker --set-as-default=false" in shown
    assert "systemctl enable docker.service\n" in shown
    assert "apt-mark hold libnvidia-container1 nvidia-container-toolkit\n" in shown


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "nvidia-ctk did not add the NVIDIA runtime"),
        (RUNTIMES | {"default-runtime": "nvidia"}, "no container would start on a server without a GPU"),
    ],
)
def test_docker_settings_that_would_not_work_fail_the_build(
    guest: Guest, settings: dict[str, object], says: str
) -> None:
    nvidia_ctk(guest, settings)
    assert says in printed(guest.run(CONFIGURE_ENGINE, DIB_CONTAINER_ENGINE="docker"), fails=True)


def test_a_toolkit_with_its_own_cdi_service_keeps_it(guest: Guest) -> None:
    guest.chroot.file("/usr/lib/systemd/system/nvidia-cdi-refresh.service", "[Service]\n")
    guest.chroot.program("systemctl", "ls /etc/systemd/system/nvidia-cdi-refresh.service 2>&1; echo enabled $2")
    shown = printed(guest.run(DESCRIBE_GPUS))
    assert "enabled nvidia-cdi-refresh.service" in shown
    assert "No such file" in shown


def test_an_older_toolkit_gets_a_cdi_service_that_systemd_accepts(guest: Guest) -> None:
    guest.chroot.file("/usr/bin/nvidia-ctk", "")
    os.chmod(guest.chroot._files / "usr/bin/nvidia-ctk", 0o755)
    guest.chroot.program("systemctl", 'exec systemd-analyze verify "/etc/systemd/system/$2"')
    assert "nvidia-cdi-refresh" not in printed(guest.run(DESCRIBE_GPUS))


# --- fabric-manager -------------------------------------------------------------------------------------------------

INSTALL_FABRIC = "fabric-manager/post-install.d/55-install-fabric-manager"
CHECK_FABRIC = "fabric-manager/post-install.d/71-check-fabric-manager"


def with_driver(guest: Guest) -> None:
    guest.chroot.file("/lib/modules/6.12.1-amd64/updates/dkms/nvidia.ko", f"version={DRIVER}\n")
    guest.chroot.program("modinfo", MODINFO)
    guest.chroot.program("install-packages", 'echo "installing $*"; touch /usr/bin/nv-fabricmanager')


@pytest.mark.parametrize(
    ("name", "versions", "version"),
    [
        ("nvidia-fabricmanager-580", ["580.159.03-1", f"{DRIVER}-1"], f"{DRIVER}-1"),
        ("nvidia-fabricmanager-580", [f"{DRIVER}-0ubuntu0.24.04.1"], f"{DRIVER}-0ubuntu0.24.04.1"),
        ("nvidia-fabricmanager", [f"{DRIVER}-1ubuntu1"], f"{DRIVER}-1ubuntu1"),
    ],
)
def test_the_fabric_manager_of_the_drivers_version_is_installed(
    guest: Guest, name: str, versions: list[str], version: str
) -> None:
    with_driver(guest)
    guest.offers({name: versions})
    assert f"installing {name}={version}\n" in printed(guest.run(INSTALL_FABRIC))


@pytest.mark.parametrize("name", ["nvidia-fabricmanager", "nvidia-fabric-manager"])
def test_rocky_calls_the_fabric_manager_by_its_branchs_name(tmp_path: Path, name: str) -> None:
    guest = Guest(Chroot(tmp_path), family="redhat")
    with_driver(guest)
    answer = f'[[ "$*" != *" {name}" ]] || printf "0:{DRIVER}-1\\n0:570.1-1\\n"'
    guest.chroot.program("dnf", f'[ "$2" = repoquery ] || exit 1; {answer}')
    assert f"installing {name}-0:{DRIVER}-1\n" in printed(guest.run(INSTALL_FABRIC, DISTRO_NAME="rocky"))


def test_a_fabric_manager_of_another_version_is_refused_with_what_there_is(guest: Guest) -> None:
    with_driver(guest)
    guest.offers({"nvidia-fabricmanager-580": ["580.159.03-1"]})
    shown = printed(guest.run(INSTALL_FABRIC), fails=True)
    assert f"no package repository has the fabric manager in the driver's version, {DRIVER}" in shown
    assert "nvidia-fabricmanager-580 580.159.03-1" in shown


def fabric_manager(guest: Guest, version: str, state: str = "disabled") -> None:
    with_driver(guest)
    guest.chroot.file("/usr/bin/nv-fabricmanager")
    query = 'case $1 in --search) echo "nvidia-fabricmanager-580: /usr/bin/nv-fabricmanager";; '
    query += (
        f"*) case \"$*\" in *Status*) echo 'installed nvidia-fabricmanager-580';; *) echo {version}-1;; esac;; esac"
    )
    guest.chroot.program("dpkg-query", query)
    guest.chroot.program("systemctl", f'echo "systemctl $*" >&2; [ "$1" != is-enabled ] || echo {state}')


def test_an_equal_fabric_manager_is_disabled_and_held(guest: Guest) -> None:
    fabric_manager(guest, DRIVER)
    shown = printed(guest.run(CHECK_FABRIC))
    assert "systemctl disable nvidia-fabricmanager.service" in shown
    assert "apt-mark hold nvidia-fabricmanager-580" in shown


def test_an_unequal_fabric_manager_fails_the_build(guest: Guest) -> None:
    fabric_manager(guest, "580.159.03")
    shown = printed(guest.run(CHECK_FABRIC), fails=True)
    assert f"the fabric manager is 580.159.03 and the driver is {DRIVER}" in shown


def test_a_fabric_manager_that_would_start_fails_the_build(guest: Guest) -> None:
    fabric_manager(guest, DRIVER, state="enabled")
    assert "is enabled, and would fail at boot" in printed(guest.run(CHECK_FABRIC), fails=True)


# --- vgpu-guest and no-licences -------------------------------------------------------------------------------------

CONFIGURE_LICENSING = "vgpu-guest/post-install.d/72-configure-licensing"


def test_a_vgpu_guest_has_its_feature_and_an_empty_folder_for_the_token(guest: Guest) -> None:
    guest.chroot.file("/usr/lib/systemd/system/nvidia-gridd.service")
    guest.chroot.program(
        "systemctl", "echo $2; cat /etc/nvidia/gridd.conf; ls -A /etc/nvidia/ClientConfigToken | wc -l"
    )
    shown = printed(guest.run(CONFIGURE_LICENSING, DIB_VGPU_FEATURE="2"))
    assert "nvidia-gridd.service\n" in shown
    assert "\nFeatureType=2\n0\n" in shown


def test_a_feature_that_nvidia_does_not_know_is_refused(guest: Guest) -> None:
    assert "not '3'" in printed(guest.run(CONFIGURE_LICENSING, DIB_VGPU_FEATURE="3"), fails=True)


def test_a_driver_that_is_no_vgpu_guest_driver_is_refused(guest: Guest) -> None:
    shown = printed(guest.run(CONFIGURE_LICENSING, DIB_VGPU_FEATURE="1"), fails=True)
    assert "is not a vGPU guest driver" in shown


LICENCES = {
    "etc/nvidia/ClientConfigToken/any-name": "anything",
    "home/debian/client_configuration_token_11-22-2026.TOK": "eyJhbGciOiJSUzI1NiJ9.eyJqdGki",
    "opt/licence.lic": "SERVER licence.example 0242AC110002 7070\nVENDOR nvidia\n",
    "var/lib/nvidia/GridLicensing/store": "lease",
    "etc/nvidia/gridd.conf": "FeatureType=1\n ServerAddress = licence.example\n",
}
HARMLESS = {
    "etc/nvidia/gridd.conf": "FeatureType=1\n#ServerAddress=licence.example\nServerAddress=\nServerPort=7070\n",
    "usr/share/words.tok": "a list of tokens\n",
    "usr/share/doc/COPYING.lic": "You may copy this.\n",
}


def refuse_licences(tree: Path) -> "subprocess.CompletedProcess[str]":
    script = ELEMENTS / "no-licences/cleanup.d/96-refuse-licences"
    environment = {**os.environ, "TMP_MOUNT_PATH": str(tree)}
    return subprocess.run(
        [script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
    )


def write(tree: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(content)


def test_a_tree_without_licences_passes(tmp_path: Path) -> None:
    write(tmp_path, HARMLESS)
    (tmp_path / "etc/nvidia/ClientConfigToken").mkdir()
    assert printed(refuse_licences(tmp_path)) == ""


@pytest.mark.parametrize("name", LICENCES)
def test_a_licence_in_the_tree_fails_the_build_and_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, HARMLESS | {name: LICENCES[name]})
    shown = printed(refuse_licences(tmp_path), fails=True).splitlines()
    assert shown[1:-1] == [f"  /{name}"]
    assert shown[-1].startswith("Remedy: remove these files")


@pytest.mark.parametrize(
    ("element", "unit"), [("container-toolkit", "nvidia-cdi-refresh"), ("vgpu-guest", "nvidia-gridd")]
)
def test_services_for_a_gpu_are_skipped_without_one(element: str, unit: str) -> None:
    drop_in = ELEMENTS / element / f"static/etc/systemd/system/{unit}.service.d/10-only-with-gpu.conf"
    [condition] = [line for line in drop_in.read_text().splitlines() if line.startswith("ExecCondition=")]
    for vendors, code in ((("0x8086", "0x10de"), 0), (("0x8086", "0x1af4"), 1)):
        assert outcome_of(condition, vendors) == code


def outcome_of(condition: str, vendors: tuple[str, ...]) -> int:
    """The exit code of a unit's condition on a machine with these PCI devices; from 1 to 254 the unit is skipped."""
    devices = "".join(
        f"mkdir -p d/{number}; echo {vendor} > d/{number}/vendor; " for number, vendor in enumerate(vendors)
    )
    command = condition.removeprefix("ExecCondition=").replace("/sys/bus/pci/devices", "d")
    argv = ["sh", "-c", f"cd $(mktemp -d); {devices} {command}"]
    return subprocess.run(argv, check=False, timeout=60).returncode
