"""Report of the differences between two builds for `inv diff`, as tables or as JSON with all details."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from pipelines.artifacts import diff, records
from pipelines.artifacts.diff import Change, Difference
from pipelines.artifacts.manifest import Manifest
from pipelines.artifacts.records import Records
from pipelines.catalog.variant import Variant
from pipelines.diskimage import file_diff
from pipelines.diskimage.file_diff import FileChange
from pipelines.release import image_metadata
from pipelines.util import console
from pipelines.util.errors import PipelineError, UsageError
from pipelines.util.failures import stops_everything

_MOST_FILES = 40  # that a table shows
_TITLES = {"system": "System", "packages": "Packages", "elements": "Elements", "inputs": "Inputs"}
_DIGESTS = {"elements", "inputs"}
_SIZES = {"image": "image file", "disk": "virtual disk", "tree": "files in the image"}


def show(variant: Variant, builds: Path, known: Records, old: str | None, new: str | None, *, as_json: bool) -> None:
    """Show what changed between two builds, given by their IDs (default: the newest, and the one before it)."""
    made = [record.manifest for record in records.everywhere(variant.name, builds, known)]
    before, after = selected(made, variant.name, old, new)
    properties = (
        image_metadata.declared_properties(variant, before),
        image_metadata.declared_properties(variant, after),
    )
    found = diff.between(before, after, properties)
    files = _files(builds, before, after)
    if as_json:
        console.emit_json(_plain(found, files))
        return
    console.say(f"{variant.name}: {found.old} → {found.new}")
    for kind, changes in found.changes.items():
        _table(_TITLES.get(kind, "Glance properties"), changes, shortened=kind in _DIGESTS)
    rows = [(_SIZES[name], _mib(sizes[0]), _mib(sizes[1])) for name, sizes in found.sizes.items()]
    console.table("Sizes, MiB", ("what", "old", "new"), rows)
    _show_files(files)


def selected(made: Sequence[Manifest], variant: str, old: str | None, new: str | None) -> tuple[Manifest, Manifest]:
    """The two builds to compare; UsageError if one is not known, or there are fewer than two."""
    by_id = {each.build_id: each for each in made}
    for wanted in (old, new):
        if wanted is not None and wanted not in by_id:
            listed = ", ".join(by_id) or "none"
            raise UsageError(f"there is no known build {wanted} of {variant}", remedy=f"Known builds: {listed}.")
    after = by_id[new] if new else made[-1] if made else None
    earlier = [each for each in made if after is not None and each.build_id < after.build_id]
    before = by_id[old] if old else earlier[-1] if earlier else None
    if before is None or after is None:
        raise UsageError(
            f"{variant} has fewer than two builds to compare: {len(made)} on this host and on record",
            remedy=f"Run `./inv build {variant} --force` for one more, or set `records` in images.yaml.",
        )
    return before, after


def _files(builds: Path, old: Manifest, new: Manifest) -> tuple[FileChange, ...] | str:
    """What changed in the files, or why that is not known."""
    images = [builds / made.variant / made.build_id / made.artifact.path for made in (old, new)]
    gone = [made.build_id for made, image in zip((old, new), images, strict=True) if not image.exists()]
    if gone:
        return f"not available: the image of {' and of '.join(gone)} is not on this host"
    console.note(f"{new.variant}: reading the files of both images, which takes about a minute")
    try:
        return file_diff.between(*images)
    except PipelineError as error:
        if stops_everything(error):
            raise
        return f"not available: {error.what}"


def _plain(found: Difference, files: tuple[FileChange, ...] | str) -> dict[str, object]:
    return {
        "variant": found.variant,
        "old": found.old,
        "new": found.new,
        **{kind: [asdict(each) | {"how": each.how} for each in changes] for kind, changes in found.changes.items()},
        "sizes": {name: {"old": old, "new": new} for name, (old, new) in found.sizes.items()},
        "files": None if isinstance(files, str) else [asdict(each) for each in files],
        "files_note": files if isinstance(files, str) else "",
    }


def _table(title: str, changes: Sequence[Change], *, shortened: bool) -> None:
    if not changes:
        console.say(f"{title}: nothing changed")
        return
    values = [[value if value is None or not shortened else value[:12] for value in (c.old, c.new)] for c in changes]
    rows = [(c.name, c.how, old or "-", new or "-") for c, (old, new) in zip(changes, values, strict=True)]
    console.table(f"{title}: {_counted(c.how for c in changes)}", ("name", "", "old", "new"), rows)


def _show_files(files: tuple[FileChange, ...] | str) -> None:
    if isinstance(files, str):
        console.say(f"Files: {files}")
    elif not files:
        console.say("Files: nothing changed")
    else:
        rows = [(each.path, each.how, ", ".join(each.facts) or "-") for each in files[:_MOST_FILES]]
        console.table(f"Files: {_counted(each.how for each in files)}", ("path", "", "what"), rows)
        if len(files) > _MOST_FILES:
            console.say(f"  … and {len(files) - _MOST_FILES} more; --json has all")


def _counted(kinds: Iterable[str]) -> str:
    counts = Counter(kinds)
    return ", ".join(f"{counts[kind]} {kind}" for kind in ("added", "removed", "changed") if counts[kind])


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**20:.1f}"
