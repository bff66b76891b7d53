"""What is known of builds that may not lie here?

A record is what is small of a build: manifest, verification, list of components. `records` in images.yaml says where
they are kept, as <records>/<variant>/<build_id>/: in the builds' own folder, in another one, or behind any URL that
fsspec knows. The manifest is written last, so a record without one is half written, and is none yet.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.artifacts import manifest as artifacts_manifest
from pipelines.artifacts import store as artifacts_store
from pipelines.artifacts.manifest import Manifest, Verification
from pipelines.artifacts.record_backends import Folder, Remote
from pipelines.artifacts.store import Build
from pipelines.util import console
from pipelines.util.errors import VerifyError

BUILDS = "builds"  # in images.yaml: the builds' own folder, wherever that is
MANIFEST, VERIFICATION = "manifest.json", "verify.json"
_BEFORE_THE_MANIFEST = ("sbom.cdx.json", VERIFICATION)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A complete build, wherever it was made. `verification` is None where there is none that can be read."""

    manifest: Manifest
    verification: Verification | None


def open(where: str, builds: Path) -> "Records":
    """The records at `where`: `builds`, an absolute path or a URL.

    HostError when the URL's driver is not installed, CatalogError when fsspec knows no such URL. Whether there is
    something that answers, the first use tells (CloudError).
    """
    if where == BUILDS or ("://" not in where and Path(where).resolve() == builds.resolve()):
        return Records(Folder(builds), builds)
    return Records(Remote(where) if "://" in where else Folder(Path(where)), None)


def everywhere(variant: str, builds: Path, kept: "Records") -> list[Record]:
    """What is known of a variant's complete builds, oldest first: those that lie here, and those on record."""
    found = [*kept.known(variant), *open(BUILDS, builds).known(variant)]  # of both, the one here has the last word
    return [record for _, record in sorted({each.manifest.build_id: each for each in found}.items())]


class Records:
    """The records in one place. Several may write at once: all write the same, or the last one counts."""

    def __init__(self, store: Folder | Remote, builds: Path | None) -> None:
        self._store = store
        self._builds = builds  # where the builds themselves are, if that is the place

    def put(self, build: Build) -> None:
        """Keep the record of a complete build, in place of what is there of it. In the builds' own folder it is."""
        if self._builds is not None:
            return
        build.manifest()  # a damaged one is said here, not found there
        paths = {(build.build_id, name): build.folder / name for name in (*_BEFORE_THE_MANIFEST, MANIFEST)}
        contents = {key: path.read_bytes() for key, path in paths.items() if path.exists()}
        there = self._store.read(build.variant, list(contents))
        for (build_id, name), content in contents.items():
            # Not every server replaces a file at once: what is read by others is left alone.
            if content != there[build_id, name]:
                self._store.write(build.variant, build_id, name, content)

    def known(self, variant: str) -> list[Record]:
        """The records of a variant's builds, oldest first. One that is damaged is said and left out."""
        return self._read(variant, sorted(self._build_ids(variant)))

    def known_build(self, variant: str, build_id: str) -> Record | None:
        """The record of one build; None where there is none that can be read."""
        found = self._build_ids(variant) if self._builds is not None else (build_id,)
        return next(iter(self._read(variant, [build_id] if build_id in found else [])), None)

    def _build_ids(self, variant: str) -> Iterable[str]:
        if self._builds is None:
            return self._store.build_ids(variant)
        return [
            each.build_id
            for each in artifacts_store.builds(self._builds, variant)
            if each.state == artifacts_store.COMPLETE
        ]

    def _read(self, variant: str, build_ids: list[str]) -> list[Record]:
        contents = self._store.read(variant, [(each, name) for each in build_ids for name in (MANIFEST, VERIFICATION)])
        found = [
            self._record(variant, build_id, contents[build_id, MANIFEST], contents[build_id, VERIFICATION])
            for build_id in build_ids
        ]
        return [record for record in found if record is not None]

    def _record(self, variant: str, build_id: str, made: bytes | None, verified: bytes | None) -> Record | None:
        if made is None:
            return None  # half written
        place = f"{self._store.name}/{variant}/{build_id}"
        try:
            parsed = artifacts_manifest.parse_manifest(made, f"{place}/{MANIFEST}")
            _require_of(parsed, variant, build_id, place)
        except VerifyError as error:
            console.warn(f"{error.what}; this record is left out")
            return None
        try:
            verification = (
                artifacts_manifest.parse_verification(verified, f"{place}/{VERIFICATION}") if verified else None
            )
            _require_of(verification, variant, build_id, place)
        except VerifyError as error:
            console.warn(f"{error.what}; the build counts as not verified")
            verification = None
        return Record(manifest=parsed, verification=verification)


def _require_of(said: Manifest | Verification | None, variant: str, build_id: str, place: str) -> None:
    """What lies in the wrong place was put there by hand."""
    if said is not None and (said.variant, said.build_id) != (variant, build_id):
        raise VerifyError(f"{place} cannot be used: it is about {said.variant} {said.build_id}")
