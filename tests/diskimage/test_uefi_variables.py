"""Enrolment of a site's certificate in UEFI variables."""

import subprocess
from pathlib import Path

import pytest

from pipelines.diskimage import qemu, uefi_variables
from pipelines.util.errors import HostError


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
