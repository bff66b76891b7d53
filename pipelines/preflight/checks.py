"""Checks of the host and their findings, run for several images at once."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from pipelines.util.errors import HostError

_AT_ONCE = 16  # most checks wait for a server or a program


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A line of `inv doctor`.

    `fit` is None where nothing was checked. A finding that is `fatal` and not fit makes a build fail; the others are
    for information. `packages` are the missing Debian packages, `images` those that the finding concerns.
    """

    name: str
    fit: bool | None
    fatal: bool
    detail: str
    remedy: str = ""
    packages: tuple[str, ...] = ()
    images: tuple[str, ...] = ()

    @property
    def breaks(self) -> bool:
        """Whether a build would fail."""
        return self.fatal and self.fit is False


@dataclass(frozen=True, slots=True)
class Check:
    """A function and its arguments. Equal checks are run once, however many images need them."""

    probe: Callable[..., Finding]
    arguments: tuple[Hashable, ...] = ()


def run(wanted: Mapping[str, Sequence[Check]]) -> tuple[Finding, ...]:
    """Run the checks of all images (name → checks) in parallel."""
    images: dict[Check, list[str]] = {}
    for image, checks in wanted.items():
        for check in checks:
            images.setdefault(check, []).append(image)
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        found = list(pool.map(lambda check: check.probe(*check.arguments), images))
    return tuple(replace(one, images=tuple(names)) for one, names in zip(found, images.values(), strict=True))


def require(findings: Sequence[Finding]) -> None:
    """HostError with everything that would make a build fail, for which images, and the remedies."""
    broken = [finding for finding in findings if finding.breaks]
    if not broken:
        return
    groups = dict.fromkeys(finding.images for finding in broken)
    what = [f"{', '.join(images)} cannot be built: {_together(broken, images)}" for images in groups]
    packages = sorted({package for finding in broken for package in finding.packages})
    install = [f"apt-get install {' '.join(packages)}"] if packages else []
    others = dict.fromkeys(finding.remedy for finding in broken if not finding.packages)
    raise HostError("\n".join(what), remedy="\n".join([*install, *others]))


def _together(broken: Sequence[Finding], images: tuple[str, ...]) -> str:
    mine = [finding for finding in broken if finding.images == images]
    missing = [finding.name for finding in mine if finding.packages]
    lacks = [f"this host lacks {', '.join(missing)}"] if missing else []
    return "; ".join([*lacks, *(f"{finding.name}: {finding.detail}" for finding in mine if not finding.packages)])
