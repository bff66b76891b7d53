"""What does a look at this host find?

Findings, the checks that lead to them, and what several of them together mean for the images that are to be built.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from pipelines.util.errors import HostError

_AT_ONCE = 16  # most checks wait for a server or a program


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of `inv doctor`.

    `fit` is None where nothing was checked. `fatal` findings that are not fit make a build fail; the others are worth
    knowing. `packages` is what is missing, as apt names it. `images` are those that the finding concerns.
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
    """A function and what it is given. Equal checks are made once, however many images ask for them."""

    probe: Callable[..., Finding]
    given: tuple[Hashable, ...] = ()


def look(wanted: Mapping[str, Sequence[Check]]) -> tuple[Finding, ...]:
    """Make the checks of all images (name → checks), all at the same time."""
    images: dict[Check, list[str]] = {}
    for image, checks in wanted.items():
        for check in checks:
            images.setdefault(check, []).append(image)
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        found = list(pool.map(lambda check: check.probe(*check.given), images))
    return tuple(replace(one, images=tuple(names)) for one, names in zip(found, images.values(), strict=True))


def require(findings: Sequence[Finding]) -> None:
    """HostError that names everything that would make a build fail, for which images, and what to do about it."""
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
