"""Enrolment of a site's certificate in the UEFI variables of a virtual machine.

It is added to shim's list of machine owner keys (MOK), as a user does at the console with MokManager, by writing the
variables before the machine starts. The only importer of virt-firmware.
"""

import tempfile
from pathlib import Path

from pipelines.util.errors import HostError

_SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"  # SHIM_LOCK_GUID in shim's lib/guid.c, the owner that mokutil names


def enroll(variables: Path, certificate: bytes) -> None:
    """Add a certificate (DER) to the MOK list in OVMF's variables, a file of edk2's format, in place."""
    # Slow to import (cryptography), and needed by one kind of boot alone.
    from virt.firmware.varstore.edk2 import Edk2VarStore  # noqa: PLC0415

    if not Edk2VarStore.probe(str(variables)):
        raise HostError(f"{variables} holds no UEFI variables", remedy="apt-get install --reinstall ovmf")
    store = Edk2VarStore(str(variables))
    found = store.get_varlist()
    with tempfile.NamedTemporaryFile(suffix=".der") as der:
        der.write(certificate)
        der.flush()
        found.add_cert("MokList", _SHIM, der.name)
    store.write_varstore(str(variables), found)
