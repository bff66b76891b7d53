"""The same images by stock diskimage-builder.

Its own elements, its defaults, the same mirrors and the same packages. Two things are added, without which it would
fail: an element with what an operator has to do for DKMS, and a replacement for kpartx where the kernel has no
device-mapper.
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import packages, site
from benchmarks.packages import Packages
from benchmarks.site import Site, Taken
from pipelines.build.recipe import Command
from pipelines.catalog.variant import Variant
from pipelines.preflight import apt_mirrors, preflight
from pipelines.util import process
from pipelines.util.errors import BuildError

HERE = Path(__file__).resolve().parent
ELEMENTS = ("debian-minimal", "vm", "cloud-init", "growroot", "benchmark-driver")
_SIGN = "benchmark: "  # starts the lines in which a build prints what is in its image
# DIB calls kpartx through sudo, which looks for it in the system's folders alone: the replacements are mounted there.
_WITH_REPLACEMENTS = 'mount -t overlay overlay -o "lowerdir=$1:/usr/sbin" /usr/sbin && shift && exec "$@"'


def measure(place: Site, variant: Variant) -> Iterator[Taken]:
    """A build from nothing."""
    folder = place.fresh(variant, "stock")
    (folder / "scratch").mkdir()
    made = command(variant, packages.requested(), folder, device_mapper=bool(preflight.device_mapper().fit))
    what = f"{variant.name} stock"
    seconds = place.run(made, what)
    facts = inside(place.output(what)) | {"bytes": str((folder / "image.qcow2").stat().st_size)}
    site.remove(folder)
    yield Taken(quantity="stock", value=seconds, facts=facts)


def command(variant: Variant, packages: Packages, folder: Path, *, device_mapper: bool) -> Command:
    """The disk-image-create run that makes `folder`/image.qcow2; whatever it writes is below that folder.

    It has the mount and process namespaces of our own builds, so that it, too, leaves nothing behind.
    """
    assert variant.base is not None  # the cases are Debian's, bootstrapped
    argv = [*process.as_root(), "setpriv", "--pdeathsig", "KILL"]
    argv += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += [] if device_mapper else ["sh", "-c", _WITH_REPLACEMENTS, "sh", str(HERE / "standins")]
    argv += [_program(), "-a", variant.base.architecture, "-t", "qcow2", "-o", str(folder / "image")]
    argv += ["-p", ",".join(packages.system), *ELEMENTS]
    environment = site.environment(
        **apt_mirrors.usable(variant.base.distribution),
        DIB_RELEASE=variant.base.codename,
        DIB_DEBIAN_COMPONENTS="main,contrib,non-free,non-free-firmware",
        DIB_BENCHMARK_DRIVER_PACKAGES=" ".join(packages.driver),
        ELEMENTS_PATH=str(HERE / "elements"),
        DIB_IMAGE_CACHE=str(folder / "cache"),
        DIB_LOCKFILES=str(folder / "cache" / "locks"),
        TMP_DIR=str(folder / "scratch"),
    )
    return Command(argv=tuple(argv), environment=environment)


def inside(lines: Sequence[str]) -> dict[str, str]:
    """What a build prints about its image; BuildError when the driver's module is not in it."""
    printed = [line.partition(_SIGN)[2].partition(" ") for line in lines if _SIGN in line]
    facts = {name: value for name, _, value in printed}
    if not facts.get("module", "").startswith("nvidia"):
        raise BuildError("no module of the driver is in the image", remedy="Its build must compile it to be compared.")
    return facts


def _program() -> str:
    beside = str(Path(sys.executable).parent)
    return shutil.which("disk-image-create", path=f"{process.search_path()}:{beside}") or "disk-image-create"
