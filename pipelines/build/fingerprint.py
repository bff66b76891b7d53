"""Fingerprint that a build of a variant would have now, and its parts.

`present` is offline: what only a server could tell about a file is taken from the newest build on this host. `asked`
asks the servers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.artifacts import store
from pipelines.artifacts.manifest import Manifest
from pipelines.build import recipe
from pipelines.catalog.variant import Variant
from pipelines.inputs import resolver
from pipelines.util import files
from pipelines.util.errors import VerifyError


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """sha256 over all that shapes the image; `parts` maps each input, by an operator's name for it, to its digest."""

    digest: str
    parts: Mapping[str, str]


def present(variant: Variant, builds: Path) -> Fingerprint:
    """The fingerprint of a build now, if the files on servers are those that the last build took."""
    return after(variant, lambda: newest(variant, builds))


def after(variant: Variant, last: Callable[[], Manifest | None]) -> Fingerprint:
    """The same, with the last build's manifest from `last`, which is called only where that makes a difference."""
    return _of(variant, lambda: resolver.known(variant, last() if resolver.wanted(variant) else None))


def asked(variant: Variant, builds: Path) -> Fingerprint:
    """The fingerprint of a build now, by what the servers answer; BuildError when one gives no valid answer."""
    return _of(variant, lambda: resolver.current(variant, builds / ".cache" / "downloads"))


def newest(variant: Variant, builds: Path) -> Manifest | None:
    """The manifest of the newest complete build; None where there is none, or it cannot be read."""
    complete = [build for build in store.builds(builds, variant.name) if build.state == store.COMPLETE]
    try:
        return complete[-1].manifest() if complete else None
    except VerifyError:
        return None  # what needs the build itself reports what is wrong with it


def _of(variant: Variant, digests: Callable[[], Mapping[str, str]]) -> Fingerprint:
    if variant.kind == "import":
        from pipelines.build import importer  # noqa: PLC0415  # it brings most programs and formats along

        parts = importer.fingerprint_parts(variant)
        return Fingerprint(digest=files.canonical_digest(parts), parts=parts)
    resolved = recipe.resolve(variant, digests())
    return Fingerprint(digest=resolved.fingerprint, parts=resolved.parts)
