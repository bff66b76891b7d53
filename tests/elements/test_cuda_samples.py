"""Build of CUDA's samples in the guest, with fakes of nvcc and of the package repository."""

import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.support.chroot import Chroot
from tests.support.paths import ELEMENTS

ELEMENT = ELEMENTS / "cuda-samples"
BUILD = ELEMENT / "post-install.d/85-build-samples"
PKG_MAP = Path(sysconfig.get_path("purelib"), "diskimage_builder/elements/pkg-map/bin/pkg-map")
# Unpacks what the real packages have, as far as it is used, and says what it was asked for.
UNPACK = r"""
[ "$1" = unpack-packages ] || exit 2
shift
echo "unpacked: ${*:2}"
samples=$1/usr/share/doc/nvidia-cuda-toolkit/examples
mkdir -p "$samples"/Common "$samples"/Samples/{1_Utilities/deviceQuery,5_Domain_Specific/nbody} \
    "$1/usr/share/doc/nvidia-cuda-samples"
touch "$samples/Common/helper_cuda.h" "$samples/Samples/1_Utilities/deviceQuery/deviceQuery.cpp"
touch "$samples"/Samples/5_Domain_Specific/nbody/{nbody.cpp,render_particles.cpp,bodysystemcuda.cu}
echo BSD > "$1/usr/share/doc/nvidia-cuda-samples/copyright"
"""
# Makes programs that print what the real ones print without a GPU, and shows the stubs for OpenGL.
NVCC = r"""
if [ "$1" = --version ]; then echo "Build cuda_12.4"; exit; fi
while [ $# -gt 0 ]; do
    case $1 in
        -o) output=$2; shift ;;
        *no-display.cpp) cat "$1" ;;
    esac
    shift
done
printf '#!/bin/sh\n%s\nexit 1\n' 'echo "Error: only 0 Devices available, cudaGetDeviceCount returned 100"' > "$output"
chmod +x "$output"
"""
# GNU nm --format=posix
NM = (
    "printf '%s\n' /nbody.cpp.o: 'glBegin U' 'gluPerspective U' 'glXGetProcAddress U' 'glutInit U' 'globals U' 'puts U'"
)
LOOK = """
status=0
bash /build || status=$?
ls /usr/bin/deviceQuery /usr/bin/nbody 2>&1
cat /usr/share/doc/cuda-samples/copyright 2>&1
ls -A /var/tmp
exit "$status"
"""


@pytest.fixture
def guest(tmp_path: Path) -> Chroot:
    """A guest with the archive's toolkit."""
    chroot = Chroot(tmp_path)
    chroot.file("/build", BUILD.read_text())
    chroot.file("/usr/share/pkg-map/cuda-samples", (ELEMENT / "pkg-map").read_text())
    chroot.file("/etc/profile.d/cuda.sh", "export CUDA_HOME=/usr\n")
    chroot.program("pkg-map", f'exec python3 {PKG_MAP} "$@"')
    chroot.program("guest-os", UNPACK)
    chroot.program("nvcc", NVCC)
    chroot.program("nm", NM)
    chroot.program("ldd", "echo 'libc.so.6 => /lib/libc.so.6'; echo 'libcuda.so.1 => not found'")
    return chroot


def built(
    guest: Chroot, tmp_path: Path, distribution: str = "debian", release: str = "trixie"
) -> "subprocess.CompletedProcess[str]":
    """How the build of the samples ends, and what the guest has then."""
    script = tmp_path / "look"
    script.write_text(f"mount -t tmpfs tmpfs /var/tmp\n{LOOK}")
    return guest.run(script, DISTRO_NAME=distribution, DIB_RELEASE=release)


def test_the_programs_are_in_the_guest_and_their_sources_are_not(guest: Chroot, tmp_path: Path) -> None:
    result = built(guest, tmp_path)
    assert result.returncode == 0, result.stdout
    assert result.stdout.splitlines()[-3:] == ["/usr/bin/deviceQuery", "/usr/bin/nbody", "BSD"]


def test_what_nbody_draws_with_is_replaced_and_nothing_else(guest: Chroot, tmp_path: Path) -> None:
    stand_ins = [line for line in built(guest, tmp_path).stdout.splitlines() if line.startswith('extern "C"')]
    assert stand_ins == [
        'extern "C" void *glXGetProcAddress(const unsigned char *) { return nullptr; }',
        'extern "C" void glBegin() { draw(); }',
        'extern "C" void gluPerspective() { draw(); }',
        'extern "C" void glutInit() { draw(); }',
    ]


def test_ubuntu_22_04_has_another_name_for_the_headers(guest: Chroot, tmp_path: Path) -> None:
    result = built(guest, tmp_path, "ubuntu", "jammy")
    (unpacked,) = (line for line in result.stdout.splitlines() if line.startswith("unpacked: "))
    assert "nvidia-cuda-samples" in unpacked
    assert "freeglut3-dev" in unpacked
    assert "libglut-dev" not in unpacked


def failure(guest: Chroot, tmp_path: Path, distribution: str = "debian", release: str = "trixie") -> str:
    """The error of a build that fails."""
    result = built(guest, tmp_path, distribution, release)
    assert result.returncode != 0, result.stdout
    (error,) = (line for line in result.stdout.splitlines() if line.startswith("ERROR: "))
    return error


def test_a_distribution_without_the_sources_fails(guest: Chroot, tmp_path: Path) -> None:
    why = "the package repository of rocky does not have the sources of CUDA's samples"
    assert failure(guest, tmp_path, "rocky", "9") == f"ERROR: {why}"


def test_sources_that_do_not_compile_fail_and_name_the_toolkit(guest: Chroot, tmp_path: Path) -> None:
    guest.program("nvcc", 'if [ "$1" = --version ]; then echo "Build cuda_13.0"; exit; fi; exit 2')
    why = "CUDA's samples do not compile with Build cuda_13.0"
    assert failure(guest, tmp_path) == f"ERROR: {why}"


def test_a_program_that_lacks_a_library_fails(guest: Chroot, tmp_path: Path) -> None:
    guest.program("ldd", "echo 'libglut.so.3 => not found'")
    assert failure(guest, tmp_path) == "ERROR: deviceQuery needs a library that is not installed"


def test_a_program_that_does_not_start_fails(guest: Chroot, tmp_path: Path) -> None:
    guest.program("nvcc", NVCC.replace("Devices available, cudaGetDeviceCount returned 100", "Segmentation fault"))
    assert failure(guest, tmp_path).startswith("ERROR: deviceQuery does not start: Error: only 0 Segmentation fault")
