"""Build of an imported image: fetched, checked, converted to compressed qcow2 and grown to the declared size.

It is compared with its checksum, and examined before any program opens it. It is never shrunk, and never changed inside
but for the place of the partition table's second copy.
"""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pipelines.artifacts import manifest
from pipelines.artifacts import store as artifacts_store
from pipelines.build import workspace
from pipelines.cache import store
from pipelines.catalog.base import Guest, Source
from pipelines.catalog.variant import Variant
from pipelines.diskimage import gpt, qemu_img, untrusted
from pipelines.diskimage.untrusted import UntrustedImage
from pipelines.inputs import fetch
from pipelines.inputs.fetch import Fetched, Wanted
from pipelines.preflight import checks, disk_space
from pipelines.preflight.checks import Check
from pipelines.util import errors, files, process, times
from pipelines.util.console import ticker
from pipelines.util.errors import BuildError, CatalogError, ProgramError

# Raise it when images are imported differently than before.
LAYOUT_VERSION = "1"
SOURCE = "ready image"  # its name in manifests and fingerprints
DEADLINE_SECONDS = 3 * 3600.0
_GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One import: the image and its digest, and the build's folder."""

    variant: Variant
    image: UntrustedImage
    sha256: str
    folder: Path
    verbose: bool


def build(variant: Variant, root: Path, now: datetime, *, verbose: bool = False) -> artifacts_store.Build:
    """Import a variant's image below `root`; returns the complete build.

    Raises BuildError with the reason when the image cannot be imported; HostError when this host lacks disk space or a
    program, or another process is building this variant. An interrupt stops the import, cleans up, and is raised again.
    """
    source, _ = _origin(variant)
    cache = root / ".cache"
    with ExitStack() as held:
        fetched = fetch.fetch(_wanted(source), cache / "downloads", held=held)
        finished = _import(variant, fetched, root, now, verbose=verbose)
    store.shrink(cache, store.limit(cache))
    return finished


def fingerprint_parts(variant: Variant) -> Mapping[str, str]:
    """What shapes the image, by an operator's name for it, to its digest. Where it was fetched from does not."""
    source, guest = _origin(variant)
    return {
        SOURCE: files.canonical_digest([source.sha256.lower(), source.format]),
        "guest": files.canonical_digest(asdict(guest)),
        "disk": files.canonical_digest([variant.disk.size, variant.disk.compression]),
        "layout": files.canonical_digest(LAYOUT_VERSION),
    }


def _import(variant: Variant, fetched: Fetched, root: Path, now: datetime, *, verbose: bool) -> artifacts_store.Build:
    from pipelines.artifacts import sbom  # noqa: PLC0415  # a plan needs fingerprints alone, and starts sooner

    source, _ = _origin(variant)
    image = untrusted.examine(fetched.path, source.format)
    _require_fit(variant, image)
    checks.require(checks.run({variant.name: (Check(disk_space.space, (root, _space_needed(variant, image))),)}))
    fingerprint = files.canonical_digest(fingerprint_parts(variant))
    with workspace.opened(root, variant.name, artifacts_store.build_id(now, fingerprint)) as folder:
        started = time.monotonic()
        job = _Job(variant=variant, image=image, sha256=fetched.sha256, folder=folder, verbose=verbose)
        stages = _convert(job)
        made = _manifest(job, now, stages, time.monotonic() - started)
        sbom.write(folder, made)
        files.write_json(folder / "manifest.json", made)
    return artifacts_store.newest_complete(root, variant.name, folder.name)


def _origin(variant: Variant) -> tuple[Source, Guest]:
    if variant.source is None or variant.guest is None:
        raise CatalogError(
            f"{variant.name} is not an imported image", remedy="Write `kind: import`, `source` and `guest`."
        )
    return variant.source, variant.guest


def _wanted(source: Source) -> Wanted:
    name = source.path.name if source.path is not None else PurePosixPath(urlsplit(source.url or "").path).name
    return Wanted(name=name, url=source.url, path=source.path, sha256=source.sha256)


def _require_fit(variant: Variant, image: UntrustedImage) -> None:
    """Refuse a disk that is larger than declared: only its publisher can shrink it safely."""
    if image.virtual_size > variant.disk.size:
        raise BuildError(
            f"{variant.name}: the image is a disk of {image.virtual_size / _GIB:g} GiB, larger than the declared"
            f" {variant.disk.size / _GIB:g} GiB",
            remedy=f"Write `size: {-(-image.virtual_size // _GIB)}GiB` or more under `disk`; an import never shrinks.",
        )


def _space_needed(variant: Variant, image: UntrustedImage) -> int:
    """Free bytes for the artifact, and for a sparse copy of the disk while it grows: an estimate."""
    packed = image.path.stat().st_size
    return packed + min(image.virtual_size, 3 * packed) + (0 if image.virtual_size == variant.disk.size else packed)


def _convert(job: _Job) -> Mapping[str, float]:
    """Make the artifact; the seconds of each stage."""
    source, kind, artifact = job.image.path, job.image.format, job.folder / "image.qcow2"
    stages: dict[str, float] = {}
    if job.image.virtual_size < job.variant.disk.size:
        grown = job.folder / "scratch" / "disk.raw"
        stages["import/unpack"] = _run(
            job, "unpack", ["qemu-img", "convert", "-p", "-W", "-f", kind, "-O", "raw", source, grown]
        )
        stages["import/grow"] = _grow(job, grown)
        source, kind = grown, "raw"
    argv = qemu_img.command(source, artifact, format=kind, compression=job.variant.disk.compression)
    stages["import/compress"] = _run(job, "compress", argv)
    qemu_img.sync(artifact)
    if problems := qemu_img.check(artifact):
        raise BuildError(
            f"{job.variant.name}: the converted image is damaged: {'; '.join(problems)}", remedy="Report this."
        )
    return stages


def _grow(job: _Job, raw: Path) -> float:
    """Give a raw disk its declared size. A GPT's second copy belongs to the end of the disk, so it moves there.

    Nothing else changes: the guest extends its own partitions (cloud-init, cloudbase-init).
    """
    table = gpt.partition_table(raw) if gpt.has_gpt(raw) else None
    if table is not None and table.problems:
        raise BuildError(
            f"{job.variant.name}: the image's partition table is damaged: {'; '.join(table.problems)}",
            remedy="Ask its publisher for a complete image; a part at its end may be missing.",
        )
    os.truncate(raw, job.variant.disk.size)
    if table is None:
        return 0.0
    return _run(job, "grow", [process.require("sfdisk", "fdisk"), "--relocate", "gpt-bak-std", raw])


def _run(job: _Job, stage: str, argv: Sequence[object]) -> float:
    """Run a stage's program, shown to the operator and into build.log; its seconds."""
    log = job.folder / "build.log"
    with ticker(job.variant.name, verbose=job.verbose) as shown:
        shown.stage(stage)
        try:
            result = process.stream(
                [*map(str, argv)], deadline=DEADLINE_SECONDS, log=log, on_line=shown.line, on_idle=shown.tick
            )
        except ProgramError as error:
            raise BuildError(f"{job.variant.name}: {stage}: {error}", remedy=f"The whole log: {log}") from error
    if result.returncode != 0:
        last = (log.read_text(errors="replace").split("\r")[-1].strip().splitlines() or [""])[-1]
        remedy = f"The whole log: {log}" + (f"\n{errors.DISK_FULL}" if "No space left on device" in last else "")
        raise BuildError(f"{job.variant.name}: {argv[0]} failed in {stage}: {last}", remedy=remedy)
    return round(result.seconds, 3)


def _manifest(job: _Job, now: datetime, stages: Mapping[str, float], seconds: float) -> manifest.Manifest:
    _, guest = _origin(job.variant)
    parts = fingerprint_parts(job.variant)
    return manifest.Manifest(
        variant=job.variant.name,
        build_id=job.folder.name,
        fingerprint=files.canonical_digest(parts),
        created_at=times.utc(now),
        base={
            "type": guest.type,
            "distribution": guest.distribution,
            "release": guest.version,
            "architecture": guest.architecture,
        },
        kernel="",
        driver={},
        cuda={},
        artifacts=(workspace.artifact(job.folder / "image.qcow2"),),
        tools={"qemu-img": qemu_img.version(), "host kernel": platform.release()},
        stages=stages,
        layers={"import": round(sum(stages.values()), 3)},
        inputs={SOURCE: job.sha256},
        parts=parts,
        seconds=round(seconds, 3),
    )
