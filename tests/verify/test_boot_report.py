"""What does Secure Boot make of the driver? The guest's own words, judged."""

import lzma
import struct
import subprocess
from pathlib import Path

import pytest

from pipelines.diskimage import qemu, uefi_variables
from pipelines.util.errors import HostError
from pipelines.verify import guest_probe
from pipelines.verify.boot_report import driver_loads, unsigned_refused

# As Debian's modprobe says it, through its install command.
NO_GPU = "could not insert 'nvidia_current': No such device\ncould not insert 'nvidia': Invalid argument"
REJECTED = "could not insert 'nvidia_current': Key was rejected by service"
LOCKDOWN = "Lockdown: insmod: unsigned module loading is restricted; see man kernel_lockdown.7"


def report(output: str, *, of: str = "driver", log: tuple[str, ...] = ()) -> dict[str, object]:
    return {of: {"module": "nvidia.ko", "returncode": 1, "output": output, "kernel_log": list(log)}}


# The driver


def test_a_driver_that_finds_no_gpu_loads() -> None:
    check = driver_loads(report(NO_GPU), enforced=False, signed=False)
    assert (check.passed, check.detail) == (True, f"loads, and finds no GPU: {NO_GPU.splitlines()[0]}")


@pytest.mark.parametrize("output", ["Exec format error", "Unknown symbol in module", "Module nvidia not found"])
def test_a_driver_that_does_not_fit_the_kernel_fails_with_the_kernels_words(output: str) -> None:
    said = report(output, log=("nvidia: disagrees about version of symbol",))
    check = driver_loads(said, enforced=False, signed=False)
    assert not check.passed
    assert check.detail == f"does not load: {output} | nvidia: disagrees about version of symbol"


def test_a_modprobe_that_ends_well_without_a_gpu_has_not_loaded_the_driver() -> None:
    said = {"driver": {"returncode": 0, "output": "", "kernel_log": []}}
    assert driver_loads(said, enforced=False, signed=False).passed is False


def test_a_driver_that_nobody_vouches_for_must_be_rejected() -> None:
    check = driver_loads(report(REJECTED), enforced=True, signed=False)
    assert (check.passed, check.detail.startswith("rejected under Secure Boot, as expected")) == (True, True)
    assert not driver_loads(report(NO_GPU), enforced=True, signed=False).passed


def test_a_signed_driver_must_load() -> None:
    assert driver_loads(report(NO_GPU), enforced=True, signed=True).passed
    assert not driver_loads(report(REJECTED), enforced=True, signed=True).passed


def test_without_secure_boot_a_rejected_driver_fails() -> None:
    assert not driver_loads(report(REJECTED), enforced=False, signed=False).passed


# A module without its signature


@pytest.mark.parametrize("output", ["Key was rejected by service", "Required key not available"])
def test_an_unsigned_module_must_be_refused(output: str) -> None:
    check = unsigned_refused(report(output, of="unsigned"), enforced=True)
    assert (check.passed, check.detail) == (True, f"nvidia.ko without its signature: {output}")


def test_a_kernel_that_is_locked_down_refuses_with_other_words() -> None:
    output = "insmod: ERROR: could not insert module: Operation not permitted"
    assert unsigned_refused(report(output, of="unsigned", log=(LOCKDOWN,)), enforced=True).passed
    assert not unsigned_refused(report(output, of="unsigned"), enforced=True).passed


@pytest.mark.parametrize("output", ["", "Unknown symbol in module", "No such device"])
def test_an_unsigned_module_that_got_past_the_signatures_fails(output: str) -> None:
    assert not unsigned_refused(report(output, of="unsigned"), enforced=True).passed


def test_a_guest_that_says_nothing_of_it_is_not_taken_for_good() -> None:
    check = unsigned_refused({}, enforced=True)
    assert (check.passed, check.detail) == (False, "a module without its signature: it did not say")


def test_without_secure_boot_nothing_is_refused() -> None:
    assert unsigned_refused({}, enforced=False).passed is None


def test_the_guest_takes_the_signature_off_and_nothing_else(tmp_path: Path) -> None:
    trailer = struct.pack(">BBBBB3xI", 0, 0, 2, 0, 0, 9)
    signed = b"\x7fELF content" + b"signature" + trailer + guest_probe.SIGNED
    path = tmp_path / "nvidia.ko.xz"
    path.write_bytes(lzma.compress(signed))
    assert guest_probe.without_signature(guest_probe.unpacked(path)) == b"\x7fELF content"
    assert guest_probe.without_signature(b"\x7fELF content") == b"\x7fELF content"


# Enrolling a certificate


@pytest.fixture
def certificate(tmp_path: Path) -> bytes:
    path = tmp_path / "certificate.der"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Modules"]
    subprocess.run([*argv, "-keyout", "/dev/null", "-outform", "DER", "-out", path], check=True, capture_output=True)
    return path.read_bytes()


def variables(path: Path) -> dict[str, bytes]:
    from virt.firmware.varstore.edk2 import Edk2VarStore

    return {name: variable.data for name, variable in Edk2VarStore(str(path)).get_varlist().items()}


def test_under_secure_boot_the_certificate_is_enrolled_and_microsofts_keys_stay(
    tmp_path: Path, certificate: bytes
) -> None:
    plain = qemu.own_variables("secure", tmp_path, None)
    assert plain is not None
    before = variables(plain)
    enrolled = qemu.own_variables("secure", tmp_path, certificate)
    assert enrolled is not None
    after = variables(enrolled)
    assert certificate in after.pop("MokList")
    assert "MokList" not in before
    assert after == before
    assert {"PK", "KEK", "db"} <= set(after)


def test_without_secure_boot_nothing_is_enrolled(tmp_path: Path, certificate: bytes) -> None:
    path = qemu.own_variables("uefi", tmp_path, certificate)
    assert path is not None
    assert certificate not in path.read_bytes()


def test_a_file_that_holds_no_variables_is_refused(tmp_path: Path, certificate: bytes) -> None:
    (tmp_path / "variables.fd").write_bytes(bytes(4096))
    with pytest.raises(HostError, match="holds no UEFI variables"):
        uefi_variables.enroll(tmp_path / "variables.fd", certificate)
