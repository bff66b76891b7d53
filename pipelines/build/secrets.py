"""Secrets on their way into a build, unseen by other processes.

Read at build time from where images.yaml says; sent through the standard input of the build's command, never in its
argv, its environment or a file; received into memory of the build's own mount namespace, which ends with it.
"""

import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from pipelines.catalog.variant import Secret, Variant
from pipelines.util import process
from pipelines.util.errors import HostError

SIGNING_CERTIFICATE = "module-signing-certificate"
_OPENSSL_SECONDS = 10.0

# ramfs, unlike tmpfs, is never written to swap. The program that follows has no standard input.
_RECEIVE = (
    'mkdir -p "$1" && mount -t ramfs -o mode=0700 secrets "$1" && tar -x -C "$1" && shift && exec "$@" < /dev/null'
)


def read(variant: Variant) -> Mapping[str, bytes]:
    """The content of the variant's secrets by name; HostError for one that is not where images.yaml says."""
    return {name: _content(variant.name, name, secret) for name, secret in variant.secrets.items()}


def sent(secrets: Mapping[str, bytes]) -> bytes:
    """What `receiver` reads: a tar archive with a file for each secret; empty when there are none."""
    if not secrets:
        return b""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in secrets.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def receiver(folder: Path) -> tuple[str, ...]:
    """The argv that goes before a command in a mount namespace: it finds the secrets as files in a new `folder`."""
    return ("sh", "-c", _RECEIVE, "receive-secrets", str(folder))


def certificate(secrets: Mapping[str, bytes]) -> str | None:
    """The module-signing certificate, which is public, as PEM; None without one. HostError when it is invalid."""
    given = secrets.get(SIGNING_CERTIFICATE)
    if given is None:
        return None
    result = process.run(["openssl", "x509"], deadline=_OPENSSL_SECONDS, stdin=given, check=False)
    if result.returncode != 0:
        raise HostError("module-signing-certificate is not a valid X.509 certificate", remedy="Give it as PEM or DER.")
    return result.stdout


def _content(variant: str, name: str, secret: Secret) -> bytes:
    if secret.pkcs11 is not None:
        return secret.pkcs11.encode()
    if secret.file is not None:
        try:
            return secret.file.read_bytes()
        except OSError as error:
            what = f"{variant}: the secret {name} cannot be read from {secret.file}: {error.strerror}"
            raise HostError(what, remedy="Put it there, or correct `secrets` in images.yaml.") from error
    content = os.environ.get(secret.env or "", "")
    if not content:
        what = f"{variant}: the secret {name} is missing: ${secret.env} is not set"
        raise HostError(what, remedy=f"export {secret.env}=…")
    return content.encode()
