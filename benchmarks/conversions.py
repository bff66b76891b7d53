"""Duration of converting the disk, and the size of the result."""

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.site import Site, Taken
from pipelines.build.recipe import Command
from pipelines.catalog.variant import Variant
from pipelines.diskimage import qemu_img
from pipelines.util import process


def compare(site: Site, variant: Variant) -> Iterator[Taken]:
    """The same raw disk by `qemu-img convert -c`, as stock DIB does it, and by our own conversion."""
    image = site.finished(variant).image()
    folder = site.fresh(variant, "conversion")
    with qemu_img.raw(image) as raw:
        theirs, ours = folder / "qemu-img.qcow2", folder / "ours.qcow2"
        yield Taken(quantity="conversion-qemu", value=_qemu_img(site, variant, raw, theirs))
        yield Taken(quantity="size-qemu", value=theirs.stat().st_size)
        yield Taken(quantity="conversion", value=_ours(raw, ours, variant.disk.compression))
        yield Taken(quantity="size", value=ours.stat().st_size, facts={"compression": variant.disk.compression})


def _qemu_img(site: Site, variant: Variant, raw: Path, made: Path) -> float:
    argv = ("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", str(raw), str(made))
    return site.run(Command(argv=argv, environment=process.environment()), f"{variant.name} qemu-img")


def _ours(raw: Path, made: Path, compression: str) -> float:
    started = time.monotonic()
    qemu_img.convert(raw, made, compression=compression)
    return time.monotonic() - started
