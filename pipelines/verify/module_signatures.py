"""Checks of the signatures of kernel modules, read out of the finished image.

With a key of the site, every module that did not come with the kernel is signed with it, and the certificate is where
the guest's users enroll it from. With `driver.source: precompiled`, where DKMS has no part, all modules are those that
the distribution compiled for the kernel that boots, and have the distribution's signature.
"""

import re
import ssl
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pipelines.diskimage import filesystem, gpt
from pipelines.diskimage.installed_packages import installed
from pipelines.util import compression, process
from pipelines.verify.check import Guest, Outcome, outcome
from pipelines.verify.kernel_driver import is_precompiled, modules

IN_GUEST = "/usr/share/gpu-image/module-signing.der"
ON_ESP = "/EFI/gpu-image/module-signing.der"  # where MokManager's "Enroll key from disk" can read it
# What modinfo calls the signer: the name in the certificate that Ubuntu's kernels are built with, which they log at
# boot: "Loaded X.509 cert 'Canonical Ltd. Kernel Module Signing: …'".
SIGNER = "Canonical Ltd. Kernel Module Signing"

# The end of a signed module: include/linux/module_signature.h in Linux.
_MAGIC = b"~Module signature appended~\n"
_TRAILER = struct.Struct(">BBBBB3sI")
_PKCS7 = (0, 0, 2, 0, 0, bytes(3))  # what the trailer must say for the kernel to look at the signature
_MODULE = re.compile(r"[\w-]+\.ko(\.xz|\.zst|\.gz)?")
_OPENSSL_SECONDS = 60.0


def module_signatures(guest: Guest) -> Outcome:
    """Every module that was added to the kernel's is signed with the site's key; guest and ESP have its certificate."""
    declared = guest.manifest.driver.get("certificate")
    if declared is None:
        missing = "the manifest names no certificate, although images.yaml has a key"
        return (False, missing) if guest.variant.secrets else (None, "the variant has no module-signing key")
    certificate = ssl.PEM_cert_to_DER_cert(declared)
    problems = [f"{path} is not the declared certificate" for path in _misplaced(guest, certificate)]
    paths: dict[bytes, list[str]] = {}
    for path, content in _added(guest).items():
        paths.setdefault(content, []).append(path)
    for content, copies in paths.items():
        if wrong := fault(compression.decompressed(content), declared):
            problems += [f"{path} {wrong}" for path in copies]
    if not paths:
        problems.append("no module was found")
    return outcome(problems, f"{len(paths)} modules; the certificate is in {IN_GUEST}, and on the ESP")


def distribution_modules(guest: Guest) -> Outcome:
    """Every module is from the distribution's package for exactly this kernel, and signed by the distribution."""
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
            problems.append(f"{path} is not from the distribution's package")
        elif (name := signer(compression.decompressed(content))) != SIGNER:
            problems.append(f"{path} is {f'signed by {name}' if name else 'not signed'}, expected {SIGNER}")
    if not found:
        problems.append("no module was found")
    return outcome(problems, f"{len(found)} modules for {release}, signed by {SIGNER}")


def fault(module: bytes, certificate: str) -> str | None:
    """Why a kernel that trusts a certificate (PEM) would refuse a module (not compressed); None if it would load it."""
    try:
        signed, proof = parted(module)
    except ValueError as error:
        return str(error)
    with tempfile.TemporaryDirectory() as scratch:
        content, signature, signer = (Path(scratch, name) for name in ("content", "signature", "signer"))
        content.write_bytes(signed)
        signature.write_bytes(proof)
        signer.write_text(certificate)
        openssl = process.require("openssl", "openssl")
        # As in the kernel, the certificate alone decides: none in the message, no chain, no date.
        argv = [openssl, "cms", "-verify", "-binary", "-inform", "DER", "-in", str(signature), "-content", str(content)]
        argv += ["-certfile", str(signer), "-nointern", "-noverify", "-out", "/dev/null"]
        result = process.run(argv, deadline=_OPENSSL_SECONDS, check=False)
    return None if result.returncode == 0 else "is signed with another key, or was changed after signing"


def signer(module: bytes) -> str | None:
    """The signer of a module (not compressed), as modinfo shows it; None when it is not signed."""
    try:
        _, signature = parted(module)
    except ValueError:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "signature")
        path.write_bytes(signature)
        argv = [process.require("openssl", "openssl"), "cms", "-cmsout", "-print", "-inform", "DER", "-in", str(path)]
        printed = process.run(argv, deadline=_OPENSSL_SECONDS).stdout
    issuer = re.search(r"issuer:.*?\bCN ?= ?(.+?)(?:, \w+ ?=.*)?$", printed, re.MULTILINE)
    return issuer[1].strip() if issuer else None


def parted(module: bytes) -> tuple[bytes, bytes]:
    """A module's content (not compressed) and its signature (CMS, DER); ValueError where a kernel would find none."""
    if not module.endswith(_MAGIC):
        raise ValueError("is not signed")
    end = len(module) - len(_MAGIC) - _TRAILER.size
    *kind, size = _TRAILER.unpack(module[end : end + _TRAILER.size])
    if tuple(kind) != _PKCS7 or size > end:
        raise ValueError("has a signature of an unknown kind")
    return module[: end - size], module[end - size : end]


CHECKS: tuple[tuple[str, Callable[[Guest], Outcome]], ...] = (
    ("distribution-modules", distribution_modules),
    ("module-signatures", module_signatures),
)


def _misplaced(guest: Guest, certificate: bytes) -> list[str]:
    esp = gpt.partition_table(guest.disk).esp
    there = esp is not None and ON_ESP.upper() in map(str.upper, filesystem.esp_files(guest.disk, esp))
    on_esp = filesystem.esp_content(guest.disk, esp, ON_ESP) if esp is not None and there else None
    found = {IN_GUEST: guest.files.read(IN_GUEST), f"{ON_ESP} on the ESP": on_esp}
    return [path for path, content in found.items() if content != certificate]


def _added(guest: Guest) -> Mapping[str, bytes]:
    """The modules that did not come with the kernel: NVIDIA's, all beside `kernel/`, and DKMS's copies of them."""
    release = guest.manifest.kernel
    folder = f"/lib/modules/{release}"
    names = [path.removeprefix(f"{folder}/") for path in guest.files.walk(folder)]
    added = [f"{folder}/{name}" for name in names if _is_added(name)]
    copies = [
        path for path in guest.files.walk("/var/lib/dkms") if re.search(f"/{re.escape(release)}/[^/]+/module/", path)
    ]
    return guest.files.contents(path for path in (*added, *copies) if _MODULE.fullmatch(path.rsplit("/", 1)[1]))


def _is_added(name: str) -> bool:
    if name.startswith("kernel/"):
        return name.rsplit("/", 1)[1].startswith("nvidia") and not name.startswith("kernel/drivers/")
    return True
