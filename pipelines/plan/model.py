"""Values that a plan is made from and consists of: what is wanted, what exists, and the actions between the two.

Filled in by others, from images.yaml, from files and from clouds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

Verb = Literal["build", "verify", "upload", "promote", "update", "prune"]
State = Literal["current", "candidate", "retired", "broken"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A variant as it should be.

    `parts` maps each input, under a name that operators know, to its digest. `clouds` maps each cloud to the
    release_digest of the variant there, since a cloud may have its own visibility and properties; `formats` maps it to
    the disk format that it wants, if that differs from the build's own.
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
class KnownBuild:
    """A complete build: its image is on this host or (`on_host` is False) only its build record is known.

    `verified` is None for a build that is not verified yet. `outdated` names, for an operator, the packages of which
    the package repositories have newer versions; it is empty when there are none, or when they were not asked.
    """

    variant: str
    build_id: str
    fingerprint: str
    created_at: datetime
    verified: bool | None = None
    outdated: str = ""
    on_host: bool = True
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudImage:
    """An image of ours in a cloud.

    `state`: current (visible), candidate (uploaded, never visible yet), retired (hidden), broken (incomplete upload).
    `converted`: its data are not the build's own file, but were compared with it. `rolled_back`: replaced by a
    rollback, and not promoted since. `deactivated`: by an administrator. `hidden_since` is None while it is visible.
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
    rolled_back: bool = False
    deactivated: bool = False
    hidden_since: datetime | None = None

    @property
    def age(self) -> tuple[str, datetime, str]:
        """Sorts the oldest build first; of a build that was uploaded twice, the first upload."""
        return self.build_id, self.created_at, self.id


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """Everything that exists: builds on this host and on record, and images in the clouds that were asked."""

    builds: tuple[KnownBuild, ...] = ()
    images: tuple[CloudImage, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One thing to do, and why. `cloud` is None for what happens on this host.

    `build` includes the verification of the new build. `build_id` is the build that is verified, uploaded, updated or
    promoted; None for the one that this plan builds. `images` are the IDs of what is updated, promoted or deleted.
    When an action fails, the later ones of its variant and cloud (of all clouds, for a build) must not be carried
    out: with `keep: 1`, what `prune` deletes may be current until the action before has replaced it.
    """

    verb: Verb
    variant: str
    cloud: str | None
    reason: str
    build_id: str | None = None
    images: tuple[str, ...] = ()
