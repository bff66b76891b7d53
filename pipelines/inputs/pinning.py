"""Rules for the packages that a new build would install.

They are those that the elements apply in the guest: NVIDIA's repository is separate from the distribution's
(guest-os add-repository, with the names in nvidia-packages/pkg-map), and the driver is of the branch or version in
images.yaml. The finished image holds its kernel and driver, but a new build is not bound by that.
"""

import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate

from pipelines.artifacts.manifest import Manifest
from pipelines.catalog.distributions import DEBIAN, DISTRIBUTIONS, Family
from pipelines.catalog.variant import Variant
from pipelines.inputs import package_versions
from pipelines.inputs.package_index import Index
from pipelines.util import paths, urls

_NEVER, _PREFERRED = -1, 600  # of apt's scale, as guest-os add-repository writes them
_NO_VERSION, _ANY_VERSION = r"(?!)", r".*"
_OWN = tuple(each.label for each in DISTRIBUTIONS.values() if each.family.package_format == "deb")  # by Origin
_CUDA = re.compile(r"\+cuda(\d+)\.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pins:
    """The rules for one image.

    `nvidia` is the address of NVIDIA's repository, "" without one; `theirs` matches the packages that come from
    nowhere else, and with `only` no others come from there. `branch` is the branch of the driver in the image, ""
    without one, and `driver` matches the upstream versions that a new build could install.
    """

    nvidia: str
    theirs: re.Pattern[str]
    only: bool
    branch: str
    driver: re.Pattern[str]


def of(made: Manifest, variant: Variant) -> Pins:
    """The rules by which the variant is built."""
    repository, base, driver = variant.nvidia_repository, variant.base, variant.driver
    prefers = driver is not None and driver.source == "nvidia-repo"
    return Pins(
        nvidia=urls.shown(repository.address(base)) if repository is not None and base is not None else "",
        theirs=_names(_family(made).name, prefers),
        only=not prefers,
        branch=made.driver.get("version", "").partition(".")[0],
        driver=re.compile(_driver(variant)),
    )


def priority(pins: Pins, index: Index, name: str) -> int:
    """The priority of an index for a package, on apt's scale; negative where it never comes from there."""
    theirs = bool(pins.nvidia) and pins.theirs.fullmatch(name) is not None
    if pins.nvidia and index.place.rstrip("/") == pins.nvidia.rstrip("/"):
        return _PREFERRED if theirs or not pins.only else _NEVER
    if theirs and not pins.only and index.origin.startswith(_OWN):
        return _NEVER
    return index.priority


def allow(pins: Pins, installed: str, offered: str) -> bool:
    """Whether the offered version of a package could replace the installed one."""
    if ".module" in installed + offered:
        return False  # the index does not tell which module stream it belongs to
    if (cuda := _CUDA.search(installed)) and (other := _CUDA.search(offered)) and cuda[1] != other[1]:
        return False  # libraries follow the toolkit's CUDA version
    of_driver = bool(pins.branch) and package_versions.upstream(installed).startswith(f"{pins.branch}.")
    return not of_driver or pins.driver.fullmatch(package_versions.upstream(offered)) is not None


def _driver(variant: Variant) -> str:
    """The upstream versions of the driver that a new build could install, as a regular expression."""
    driver, selection = variant.driver, variant.selection
    if driver is None or driver.source in {"local", "runfile"}:
        return _NO_VERSION  # a named file or folder, whose changes change the fingerprint
    if driver.source != "nvidia-repo":
        return _ANY_VERSION  # the package names have the branch, of which the repository has one version
    if driver.version is not None:
        return re.escape(driver.version)
    return rf"{selection.branch}\..*" if selection is not None and selection.branch else _ANY_VERSION


def _family(made: Manifest) -> Family:
    """The family of the guest in a build; Debian's where the manifest does not name it."""
    found = DISTRIBUTIONS.get(made.base.get("distribution", ""))
    return found.family if found is not None else DEBIAN


@functools.cache
def _names(family: str, prefers: bool) -> re.Pattern[str]:
    """The names of the packages that come from NVIDIA's repository."""
    known = json.loads((paths.ELEMENTS / "nvidia-packages/pkg-map").read_text(encoding="utf-8"))
    globs = known["family"][family]["driver-packages"] if prefers else known["default"]["packages-for-any-driver"]
    return re.compile(_any_of(globs.split()))


def _any_of(globs: Iterable[str]) -> str:
    return "|".join(translate(glob) for glob in globs)
