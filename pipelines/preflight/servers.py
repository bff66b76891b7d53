"""The servers that a build downloads from.

They are asked for the files that a build downloads first, with curl and through the same proxies as diskimage-builder
does: that a server answers at all would prove little.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from pipelines.catalog.base import Base
from pipelines.catalog.distributions import DISTRIBUTIONS
from pipelines.catalog.variant import Variant
from pipelines.inputs import resolver
from pipelines.inputs.fetch import Wanted
from pipelines.preflight import apt_mirrors
from pipelines.preflight.checks import Check, Finding
from pipelines.util import process, urls
from pipelines.util.errors import HostError, ProgramError

DEADLINE_SECONDS = 8


def needed(variant: Variant, etc: Path = apt_mirrors.ETC) -> Iterator[Check]:
    """Checks of what a build of the variant downloads first. Mirrors in the catalog's environment take precedence."""
    if variant.base is None:
        return
    declared = variant.environment
    for name, file in resolver.wanted(variant).items():
        yield from _files(name, file)
    distribution = DISTRIBUTIONS[variant.base.distribution]
    if distribution.family.package_format != "deb":
        return  # the image's own dnf has its mirrors
    host = apt_mirrors.usable(variant.base.distribution, etc)
    own = declared.get(distribution.mirror_variable) or declared.get(apt_mirrors.DISTRIBUTION)
    yield from _suites(variant.base, own or host.get(apt_mirrors.DISTRIBUTION))
    security = distribution.security_variable
    if security and "DIB_APT_SOURCES_CONF" not in declared:
        yield from _security(variant.base, security, declared.get(security) or host.get(security))
    for variable, uri in apt_mirrors.secret(variant.base.distribution, etc).items():
        if variable not in declared:
            yield Check(secret_mirror, (variable, uri))


def answers(name: str, url: str) -> Finding:
    """Whether a server has a file, without downloading it."""
    argv = [
        "curl",
        "--head",
        "--silent",
        "--show-error",
        "--fail",
        "--location",
        "--netrc-optional",
        "--output",
        os.devnull,
    ]
    argv += ["--max-time", str(DEADLINE_SECONDS), "--url", url]
    shown = urls.shown(url)
    try:
        environment = process.environment(**process.proxies())
        result = process.run(argv, deadline=DEADLINE_SECONDS + 2, check=False, env=environment)
    except (HostError, ProgramError) as error:
        return Finding(name=name, fit=None, fatal=True, detail=f"not checked: {error}")
    if result.returncode == 0:
        return Finding(name=name, fit=True, fatal=True, detail=f"{shown} exists")
    why = (result.stderr.strip().splitlines() or [f"curl ended with {result.returncode}"])[-1]
    remedy = "Check the network, the proxy (http_proxy), base and environment in images.yaml, and /etc/apt."
    return Finding(name=name, fit=False, fatal=True, detail=f"{shown}: {why}", remedy=remedy)


def _files(name: str, file: Wanted) -> Iterator[Check]:
    for what, url in (
        (name, file.url),
        (f"{name}: checksums", file.sums_url),
        (f"{name}: signature", file.signature_url),
    ):
        if url is not None and not url.startswith("file:"):
            yield Check(answers, (what, url))


def unknown(name: str, variable: str) -> Finding:
    """A mirror that is not checked, since diskimage-builder chooses it."""
    detail = f"not checked: {variable} is unset and this host has no mirror for it, so diskimage-builder's is used"
    return Finding(name=name, fit=None, fatal=False, detail=detail)


def secret_mirror(variable: str, uri: str) -> Finding:
    """A mirror of the host that is not used, since its URI has a password."""
    return Finding(
        name="mirror with a password",
        fit=False,
        fatal=False,
        detail=f"{uri} is not used, since a build logs its variables, and the password would be in {variable}",
        remedy=f"Set {variable} to a mirror without a password, in `environment` in images.yaml.",
    )


def _suites(base: Base, mirror: str | None) -> Iterator[Check]:
    if mirror is None:
        yield Check(unknown, (f"{base.distribution} mirror", apt_mirrors.DISTRIBUTION))
        return
    for suite in (base.codename, f"{base.codename}-updates"):
        yield Check(answers, (f"{suite} packages", f"{mirror.rstrip('/')}/dists/{suite}/InRelease"))


def _security(base: Base, variable: str, mirror: str | None) -> Iterator[Check]:
    suite = f"{base.codename}-security"
    if mirror is None:
        yield Check(unknown, (f"{suite} mirror", variable))
    else:
        yield Check(answers, (f"{suite} packages", f"{mirror.rstrip('/')}/dists/{suite}/InRelease"))
