"""The input files of a build and their digests, which are part of the fingerprint.

A cloud image, a runfile, NVIDIA's keyring, a folder of packages, a certificate. A digest is pinned in images.yaml,
computed from a local file, or (of a "current" image) known from the newest build's manifest, so that planning needs no
server.
"""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from pipelines.artifacts.manifest import Manifest
from pipelines.catalog import signing_keys
from pipelines.catalog.base import Base
from pipelines.catalog.variant import Secret, Variant
from pipelines.inputs import fetch, http
from pipelines.inputs.fetch import Wanted
from pipelines.util import files
from pipelines.util.errors import CatalogError, HostError

BASE_IMAGE, RUNFILE, KEYRING = "base image", "runfile", "NVIDIA's keyring"
LOCAL_PACKAGES, CERTIFICATE = "local packages", "module-signing certificate"
# The variable that gives an element the path of the file on the host.
_VARIABLES = {
    BASE_IMAGE: "DIB_BASE_IMAGE",
    RUNFILE: "DIB_NVIDIA_RUNFILE",
    KEYRING: "DIB_NVIDIA_KEYRING",
    LOCAL_PACKAGES: "DIB_NVIDIA_LOCAL",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """The files of one build: paths (by variable), digests and the keys that signed their checksums (by name)."""

    files: Mapping[str, Path]
    digests: Mapping[str, str]
    signers: Mapping[str, str]


def wanted(variant: Variant) -> dict[str, Wanted]:
    """The files to fetch, by name. CatalogError when a signature is required and no key is known."""
    found: dict[str, Wanted] = {}
    base, driver, repository = variant.base, variant.driver, variant.nvidia_repository
    if base is not None and base.source == "cloud-image":
        found[BASE_IMAGE] = _base_image(variant.name, base)
    if driver is not None and driver.source == "runfile":
        found[RUNFILE] = _plain(driver.url, driver.path, driver.sha256)
    if base is not None and repository is not None:
        found[KEYRING] = _plain(repository.keyring(base), None, repository.keyring_sha256)
    return found


def known(variant: Variant, newest: Manifest | None) -> dict[str, str]:
    """The digests that are known without asking a server, by name; "" where only a build can find out.

    `newest` is the manifest of the variant's newest build, whose digests count while the file is declared as it was.
    """
    locked = _locked(variant, newest)
    digests = {name: _pinned(file) or locked.get(name, "") for name, file in wanted(variant).items()}
    return digests | {name: digest or locked.get(name, "") for name, digest in _local(variant).items()}


def current(variant: Variant, cache: Path) -> dict[str, str]:
    """The digests that `collect` would find now, by name; servers are asked for checksums only, not for files.

    "" for what cannot be read on this host. BuildError when a server gives no valid answer.
    """
    digests = {name: fetch.sha256(file, cache, http.BRIEF) for name, file in wanted(variant).items()}
    return digests | _local(variant)


def collect(variant: Variant, cache: Path, held: contextlib.ExitStack | None = None) -> Inputs:
    """Fetch and verify all input files of a build; BuildError or HostError when that fails.

    They are not evicted from the cache until `held` is closed.
    """
    fetched = {name: fetch.fetch(file, cache, held=held) for name, file in wanted(variant).items()}
    local = _local(variant)
    if missing := [name for name, digest in local.items() if not digest]:
        raise HostError(f"{variant.name}: the {missing[0]} cannot be read", remedy=_remedy(variant, missing[0]))
    return Inputs(
        files=_with_folder({_VARIABLES[name]: file.path for name, file in fetched.items()}, variant),
        digests={name: file.sha256 for name, file in fetched.items()} | local,
        signers={name: file.signed_by for name, file in fetched.items() if file.signed_by},
    )


def places(variant: Variant, cache: Path) -> dict[str, Path]:
    """The future path of each file, by variable, to be shown; with "DIGEST" where that is not known yet."""
    fetched = {
        _VARIABLES[name]: file.path or cache / (file.sha256 or "DIGEST") / file.name
        for name, file in wanted(variant).items()
    }
    return _with_folder(fetched, variant)


def local_files(variant: Variant) -> dict[str, Path]:
    """What must exist on this host according to the catalog, by name: files, a folder of packages, secrets."""
    named = {name: file.path for name, file in wanted(variant).items()}
    named |= {name: secret.file for name, secret in variant.secrets.items()}
    named[LOCAL_PACKAGES] = _folder(variant)
    named["imported image"] = variant.source.path if variant.source is not None else None
    return {name: path for name, path in named.items() if path is not None}


def folder_digest(folder: Path) -> str:
    """sha256 over the names and contents of a folder's packages; "" where they cannot be read."""
    total = hashlib.sha256()
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix in {".deb", ".rpm"}:
                total.update(f"{path.name}\0{files.sha256(path)}\0".encode())
    except OSError:
        return ""
    return total.hexdigest()


def _base_image(name: str, base: Base) -> Wanted:
    image = _plain(base.url, base.path, base.sha256)
    if base.sha256 is not None or base.sha256sums_url is None:
        return image
    image = replace(image, sums_url=base.sha256sums_url)
    if base.signature == "none":
        return image
    signed_by, keyring = base.signed_by, base.keyring
    known_key = signing_keys.default_key(base.distribution, base.codename)
    suffix = ".gpg"
    if known_key is not None and signed_by in {None, known_key.fingerprint}:
        signed_by, keyring = known_key.fingerprint, keyring or known_key.keyring
        suffix = known_key.signature_suffix
    elif signed_by is not None:
        keyring = keyring or signing_keys.keyring(signed_by)
    if signed_by is None or keyring is None:
        raise CatalogError(
            f"{name}: no key is known that signs {base.distribution}'s images",
            remedy="Write `signed_by` and `keyring` under `base`, a literal `sha256`, or `signature: none`.",
        )
    apart = base.signature_url or f"{base.sha256sums_url}{suffix}"
    return replace(
        image,
        signature_url=None if base.signature == "inline" else apart,
        signed_by=signed_by,
        keyring=keyring,
    )


def _plain(url: str | None, path: Path | None, sha256: str | None) -> Wanted:
    if url is not None and url.startswith("file://"):
        url, path = None, Path(unquote(urlsplit(url).path))  # like every local file, it is known by its content
    name = path.name if path is not None else PurePosixPath(urlsplit(url or "").path).name
    return Wanted(name=name, url=url, path=path, sha256=sha256)


def _locked(variant: Variant, newest: Manifest | None) -> Mapping[str, str]:
    """The input digests of the newest build, if its base was declared with the same URL."""
    if newest is None or variant.base is None or newest.base.get("url") != variant.base.url:
        return {}
    return newest.inputs


def _pinned(file: Wanted) -> str | None:
    """The digest of a pinned or local file; None where it is not known without a server."""
    if file.sha256 is not None or file.path is None:
        return file.sha256
    try:
        return files.sha256(file.path)
    except OSError:
        return None  # the build reports it


def _folder(variant: Variant) -> Path | None:
    """The folder of local packages."""
    driver = variant.driver
    return driver.path if driver is not None and driver.source == "local" else None


def _with_folder(found: Mapping[str, Path], variant: Variant) -> dict[str, Path]:
    folder = _folder(variant)
    return dict(found) if folder is None else {**found, _VARIABLES[LOCAL_PACKAGES]: folder}


def _local(variant: Variant) -> dict[str, str]:
    """The digests of local inputs that are not fetched; "" for what cannot be read on this host."""
    found = {}
    certificate = variant.secrets.get("module-signing-certificate")
    if (folder := _folder(variant)) is not None:
        found[LOCAL_PACKAGES] = folder_digest(folder)
    if certificate is not None:
        found[CERTIFICATE] = _certificate_digest(certificate)
    return found


def _certificate_digest(certificate: Secret) -> str:
    content = b""
    if certificate.file is not None:
        with contextlib.suppress(OSError):  # the build reports it
            content = certificate.file.read_bytes()
    elif certificate.env is not None:
        content = os.environ.get(certificate.env, "").encode()
    return hashlib.sha256(content).hexdigest() if content else ""


def _remedy(variant: Variant, name: str) -> str:
    if name == LOCAL_PACKAGES and variant.driver is not None:
        return f"Copy the driver's packages to {variant.driver.path}, or correct `driver.path` in images.yaml."
    return "Correct `secrets.module-signing-certificate` in images.yaml, or set the variable that it names."
