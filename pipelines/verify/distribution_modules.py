"""Are the driver's modules the distribution's own?

For `driver.source: precompiled`, where DKMS has no part: all modules are what the distribution compiled for the kernel
that boots, and carry its signature, which a kernel under Secure Boot accepts.
"""

import re
import tempfile
from pathlib import Path

from pipelines.diskimage import kernel_files
from pipelines.diskimage.installed_packages import installed
from pipelines.util import process
from pipelines.verify.check import Guest, Outcome, outcome
from pipelines.verify.kernel_driver import is_precompiled, modules
from pipelines.verify.module_signatures import parted

# What modinfo calls the signer: the name in the certificate that Ubuntu's kernels are built with. Their log says it at
# boot: "Loaded X.509 cert 'Canonical Ltd. Kernel Module Signing: …'".
SIGNER = "Canonical Ltd. Kernel Module Signing"
_OPENSSL_SECONDS = 60.0


def distribution_modules(guest: Guest) -> Outcome:
    """Every module is of the distribution's package for exactly this kernel, and signed by the distribution."""
    if not is_precompiled(guest):
        return None, "the variant's modules are compiled in the build"
    release = guest.manifest.kernel
    folder = f"/lib/modules/{release}/kernel/nvidia-"
    problems = []
    if not any(re.fullmatch(rf"linux-modules-nvidia-.+-{re.escape(release)}", name) for name in installed(guest.files)):
        problems.append(f"no package linux-modules-nvidia-…-{release} is installed")
    found = modules(guest)
    for path, content in found.items():
        if not path.startswith(folder):
            problems.append(f"{path} is not the distribution's own")
        elif (name := signer(kernel_files.decompressed(content))) != SIGNER:
            problems.append(f"{path} is signed by {name or 'nobody'}, not by {SIGNER}")
    if not found:
        problems.append("there is no module to look at")
    return outcome(problems, f"{len(found)} modules for {release}, signed by {SIGNER}")


def signer(module: bytes) -> str | None:
    """Who signed a module (not compressed), as modinfo says it; None where nobody did."""
    try:
        _, signature = parted(module)
    except ValueError:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "signature")
        path.write_bytes(signature)
        argv = [process.require("openssl", "openssl"), "cms", "-cmsout", "-print", "-inform", "DER", "-in", str(path)]
        said = process.run(argv, deadline=_OPENSSL_SECONDS).stdout
    issuer = re.search(r"issuer:.*?\bCN ?= ?(.+?)(?:, \w+ ?=.*)?$", said, re.MULTILINE)
    return issuer[1].strip() if issuer else None
