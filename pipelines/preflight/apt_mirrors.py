"""The package mirrors of this host's apt, for guests of the same distribution.

A Debian guest is built from the host's mirror if the build can use it, too. It is read at run time; nothing of it may
end up in an image.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pipelines.catalog.distributions import DISTRIBUTIONS
from pipelines.util import urls

ETC = Path("/etc")
DISTRIBUTION = "DIB_DISTRIBUTION_MIRROR"


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageSource:
    """A source of Debian packages in the host's apt configuration."""

    uri: str
    suites: tuple[str, ...]


def usable(distribution: str, etc: Path = ETC) -> dict[str, str]:
    """The DIB variables with which a guest of the host's own distribution is built from the host's mirrors.

    Empty for another distribution, which then uses DIB's defaults. Without a security mirror that a build can use,
    DIB's default is used for that.
    """
    found: dict[str, str] = {}
    for variable, uri in _mirrors(distribution, etc):
        if uri == urls.shown(uri):
            found.setdefault(variable, uri)
    return found


def secret(distribution: str, etc: Path = ETC) -> dict[str, str]:
    """The DIB variables for which the host only has mirrors with a password in the URI, which is left out here.

    DIB's variables are traced and logged, so such a mirror is never used.
    """
    known = usable(distribution, etc)
    return {name: urls.shown(uri) for name, uri in _mirrors(distribution, etc) if name not in known}


def package_sources(etc: Path) -> tuple[PackageSource, ...]:
    """The binary package sources in sources.list and sources.list.d, one-line and deb822 style (sources.list(5))."""
    apt = etc / "apt"
    found: list[PackageSource] = []
    for path in sorted([apt / "sources.list", *(apt / "sources.list.d").glob("*.list")]):
        if path.exists():
            found += _one_line_sources(path.read_text(encoding="utf-8"))
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        found += _deb822_sources(path.read_text(encoding="utf-8"))
    return tuple(found)


def _mirrors(distribution: str, etc: Path) -> Iterator[tuple[str, str]]:
    """DIB variable and URI of each source for packages of the guest's release."""
    release, found = _os_release(etc), DISTRIBUTIONS.get(distribution)
    if found is None or not found.mirror_variable or release.get("ID") != distribution:
        return
    codename = release.get("VERSION_CODENAME", "")
    for source in package_sources(etc):
        uri = _server(source.uri, etc)
        if uri is not None and codename in source.suites:
            yield DISTRIBUTION, uri
        if uri is not None and f"{codename}-security" in source.suites:
            yield found.security_variable, uri


def _server(uri: str, etc: Path) -> str | None:
    """The http or https URI of a source; None for one that only this host's apt can read (cdrom, file).

    Debian's cloud images name a file with a list of mirrors: mirror+file:/etc/apt/mirrors/debian.list (apt-transport-
    mirror(1)).
    """
    if uri.startswith(("http://", "https://")):
        return uri.rstrip("/")
    if not uri.startswith("mirror+file:"):
        return None
    named = PurePosixPath(urlsplit(uri).path)
    path = etc / named.relative_to(ETC) if named.is_relative_to(ETC) else Path(named)
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    first = (line.split()[0] for line in lines if line.startswith(("http://", "https://")))
    return next((each.rstrip("/") for each in first), None)


def _os_release(etc: Path) -> dict[str, str]:
    text = (etc / "os-release").read_text(encoding="utf-8") if (etc / "os-release").exists() else ""
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in text.splitlines())}


def _one_line_sources(text: str) -> Iterator[PackageSource]:
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", "", line.partition("#")[0]).split()
        if len(words) >= 3 and words[0] == "deb":
            yield PackageSource(uri=words[1], suites=(words[2],))


def _deb822_sources(text: str) -> Iterator[PackageSource]:
    for stanza in re.split(r"\n\s*\n", text):
        lines = re.sub(r"\n[ \t]+", " ", re.sub(r"(?m)^#.*\n?", "", stanza))
        fields = {
            name.strip().lower(): value.split() for name, _, value in (x.partition(":") for x in lines.split("\n"))
        }
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
            for uri in fields.get("uris", []):
                yield PackageSource(uri=uri, suites=tuple(fields.get("suites", [])))
