"""What is wanted, what exists, and what can be done about the difference?

The values that plan.py reads and answers with; others fill them from images.yaml, from files and from clouds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

Verb = Literal["build", "verify", "upload", "promote", "update", "prune"]
State = Literal["current", "candidate", "retired", "broken"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A variant as it should be.

    `parts` maps each input, in an operator's words, to its digest. `clouds` maps each cloud to the release_digest of
    the variant there, since a cloud may have its own visibility and properties; `formats` to the disk format that it
    wants, if that is not every image's own.
    """

    variant: str
    fingerprint: str
    clouds: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)
    keep: int = 2
    rebuild_age: timedelta | None = None
    prune_after: timedelta = timedelta(0)
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalBuild:
    """A complete build that lies here, or (`here` is False) of which a record does.

    `verified` is None where that was never tried. `outdated` says, in an operator's words, which packages of it the
    archives have newer by now; empty when none, or when nobody asked.
    """

    variant: str
    build_id: str
    fingerprint: str
    created_at: datetime
    verified: bool | None = None
    outdated: str = ""
    here: bool = True
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudImage:
    """An image of ours in a cloud.

    `state`: current (visible), candidate (uploaded, never shown yet), retired (hidden), broken (half uploaded).
    `converted`: its data are not the build's own file, but were compared with it. `rejected`: somebody went back from
    it. `deactivated`: an administrator took it out of use. `hidden_since` is None for what is shown.
    """

    cloud: str
    id: str
    variant: str
    build_id: str
    fingerprint: str
    release_digest: str
    state: State
    created_at: datetime
    disk_format: str = "qcow2"
    converted: bool = False
    rejected: bool = False
    deactivated: bool = False
    hidden_since: datetime | None = None

    @property
    def age(self) -> tuple[str, datetime, str]:
        """Oldest first; a build that was uploaded twice, by its upload."""
        return self.build_id, self.created_at, self.id


def shown(images: Iterable[CloudImage], cloud: str) -> CloudImage | None:
    """What a cloud shows of a variant's images; of several, the newest that nobody there went back from."""
    current = (image for image in images if image.cloud == cloud and image.state == "current")
    return max(current, key=lambda image: (not image.rejected, *image.age), default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """All that exists: here, on record, and in the clouds that were asked."""

    builds: tuple[LocalBuild, ...] = ()
    images: tuple[CloudImage, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One thing to do, and why. `cloud` is None for what happens here.

    `build` includes the verification of what it builds. `build_id` is the build that is verified, uploaded, updated
    or promoted; None for the one that this plan builds. `images` are the IDs of what is updated, promoted or deleted.
    When an action fails, the later ones of its variant and cloud (of all clouds, for a build) must not be carried
    out: with `keep: 1`, what `prune` deletes may be current until the action before has replaced it.
    """

    verb: Verb
    variant: str
    cloud: str | None
    reason: str
    build_id: str | None = None
    images: tuple[str, ...] = ()
