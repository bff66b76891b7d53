"""What would a build of a variant be now?

Its fingerprint and parts. `present` is offline: what only a server could tell of a file is taken from the newest build
here; `asked` asks the servers.
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
    """sha256 over all that shapes the image; `parts` maps each input, in an operator's words, to its own digest."""

    digest: str
    parts: Mapping[str, str]


def present(variant: Variant, builds: Path) -> Fingerprint:
    """The fingerprint that a build of the variant would have now, if its files on servers are those of the last one."""
    return after(variant, lambda: newest(variant, builds))


def after(variant: Variant, last: Callable[[], Manifest | None]) -> Fingerprint:
    """The same, where `last` says which build was the last one; asked only where that makes a difference."""
    return _of(variant, lambda: resolver.known(variant, last() if resolver.wanted(variant) else None))


def asked(variant: Variant, builds: Path) -> Fingerprint:
    """The fingerprint that a build of the variant would have now. BuildError when a server gives no good answer."""
    return _of(variant, lambda: resolver.asked(variant, builds / ".cache" / "downloads"))


def _of(variant: Variant, digests: Callable[[], Mapping[str, str]]) -> Fingerprint:
    if variant.kind == "import":
        from pipelines.build import importer  # noqa: PLC0415  # and most programs and formats with it

        parts = importer.fingerprint_parts(variant)
        return Fingerprint(digest=files.canonical_digest(parts), parts=parts)
    plan = recipe.resolve(variant, digests())
    return Fingerprint(digest=plan.fingerprint, parts=plan.parts)


def newest(variant: Variant, builds: Path) -> Manifest | None:
    """The manifest of the newest complete build; None where there is none, or it cannot be read."""
    complete = [build for build in store.builds(builds, variant.name) if build.state == store.COMPLETE]
    try:
        return complete[-1].manifest() if complete else None
    except VerifyError:
        return None  # whoever needs the build itself says what is wrong with it
