"""Build records: the small files of a build (manifest, verification, SBOM), which may outlive its image on this host.

`records` in images.yaml names their place: the builds' own folder, another folder, or any URL that fsspec supports. A
record is <records>/<variant>/<build_id>/. Its manifest is written last, so one without a manifest is incomplete and
is ignored.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.artifacts import store
from pipelines.artifacts.manifest import Manifest, Verification, parse_manifest, parse_verification
from pipelines.artifacts.record_backends import Folder, Remote
from pipelines.artifacts.store import Build
from pipelines.util import console
from pipelines.util.errors import VerifyError

BUILDS = "builds"  # in images.yaml: the builds' own folder, wherever it is
MANIFEST, VERIFICATION = "manifest.json", "verify.json"
_BEFORE_THE_MANIFEST = ("sbom.cdx.json", VERIFICATION)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A complete build, wherever it was made. `verification` is None when missing or damaged."""

    manifest: Manifest
    verification: Verification | None


def open(where: str, builds: Path) -> "Records":
    """The records at `where`: `builds`, an absolute path or a URL.

    HostError when the URL's driver is not installed, CatalogError when fsspec does not support the URL. Whether the
    place can be reached shows at the first use (CloudError).
    """
    if where == BUILDS or ("://" not in where and Path(where).resolve() == builds.resolve()):
        return Records(Folder(builds), builds)
    return Records(Remote(where) if "://" in where else Folder(Path(where)), None)


def everywhere(variant: str, builds: Path, records: "Records") -> list[Record]:
    """A variant's complete builds, oldest first: those on this host and those on record."""
    found = [*records.known(variant), *open(BUILDS, builds).known(variant)]  # the later, of this host, takes precedence
    return [record for _, record in sorted({each.manifest.build_id: each for each in found}.items())]


class Records:
    """The records in one place. Several processes may write at once: the same content, or the last one wins."""

    def __init__(self, store: Folder | Remote, builds: Path | None) -> None:
        self._store = store
        self._builds = builds  # the builds' own folder, if that is the place

    def put(self, build: Build) -> None:
        """Write or update the record of a complete build. In the builds' own folder the build itself is the record."""
        if self._builds is not None:
            return
        build.manifest()  # a damaged one raises here, and is not recorded
        paths = {(build.build_id, name): build.folder / name for name in (*_BEFORE_THE_MANIFEST, MANIFEST)}
        contents = {key: path.read_bytes() for key, path in paths.items() if path.exists()}
        recorded = self._store.read(build.variant, list(contents))
        for (build_id, name), content in contents.items():
            # Not every server replaces a file atomically: a file that others may be reading is left alone.
            if content != recorded[build_id, name]:
                self._store.write(build.variant, build_id, name, content)

    def known(self, variant: str) -> list[Record]:
        """The records of a variant's builds, oldest first. A damaged one is left out, with a warning."""
        return self._read(variant, sorted(self._build_ids(variant)))

    def known_build(self, variant: str, build_id: str) -> Record | None:
        """The record of one build; None when missing or damaged."""
        found = self._build_ids(variant) if self._builds is not None else (build_id,)
        return next(iter(self._read(variant, [build_id] if build_id in found else [])), None)

    def _build_ids(self, variant: str) -> Iterable[str]:
        if self._builds is None:
            return self._store.build_ids(variant)
        return [each.build_id for each in store.builds(self._builds, variant) if each.state == store.COMPLETE]

    def _read(self, variant: str, build_ids: list[str]) -> list[Record]:
        contents = self._store.read(variant, [(each, name) for each in build_ids for name in (MANIFEST, VERIFICATION)])
        found = [
            self._record(variant, build_id, contents[build_id, MANIFEST], contents[build_id, VERIFICATION])
            for build_id in build_ids
        ]
        return [record for record in found if record is not None]

    def _record(self, variant: str, build_id: str, made: bytes | None, verified: bytes | None) -> Record | None:
        if made is None:
            return None  # incomplete
        place = f"{self._store.name}/{variant}/{build_id}"
        try:
            manifest = parse_manifest(made, f"{place}/{MANIFEST}")
            _require_place(manifest, variant, build_id, place)
        except VerifyError as error:
            console.warn(f"{error.what}; the record is ignored")
            return None
        try:
            verification = parse_verification(verified, f"{place}/{VERIFICATION}") if verified else None
            _require_place(verification, variant, build_id, place)
        except VerifyError as error:
            console.warn(f"{error.what}; the build counts as not verified")
            verification = None
        return Record(manifest=manifest, verification=verification)


def _require_place(found: Manifest | Verification | None, variant: str, build_id: str, place: str) -> None:
    """VerifyError for a file of another build, which was copied there by hand."""
    if found is not None and (found.variant, found.build_id) != (variant, build_id):
        raise VerifyError(f"{place} cannot be used: it is the record of {found.variant} {found.build_id}")
