"""Manifests and verifications of builds, and how they are read from JSON.

A field of a wrong type is refused, so that nothing later has to doubt them.
"""

import collections.abc
import json
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pipelines.util.errors import VerifyError

_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """An image file. `path` is relative to the build's folder; sizes are in bytes; digests are hexadecimal."""

    path: str
    format: str
    size: int
    virtual_size: int
    sha256: str
    sha512: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A complete build.

    `created_at`  ISO 8601 in UTC
    `base`        distribution, release and architecture, and how the base was declared; of an imported image also the
                  type of its guest
    `kernel`      the release that will boot, as in /lib/modules
    `driver`      empty without one; with the certificate (PEM) where a site signed the modules
    `packages`    name → version; `architectures`: name → the package's architecture
    `tools`       program → version
    `stages`      "layer/stage" → seconds; `layers`: layer → seconds of its stages; `seconds`: wall time of the whole
                  build, including what happens between the stages
    `elements`    name → digest; `parts`: each part of the fingerprint → its digest
    `inputs`      downloaded or local file (base image, runfile) → sha256
    `archives`    package index that was used ("URL INDEX") → its sha256 when it was first used
    `cached`      what was taken from the cache ("base layer") → key
    `scratch`     bytes of the guest's tree, and of the scratch space at its peak
    """

    variant: str
    build_id: str
    fingerprint: str
    created_at: str
    base: Mapping[str, str]
    kernel: str
    driver: Mapping[str, str]
    cuda: Mapping[str, str]
    artifacts: tuple[Artifact, ...]
    packages: Mapping[str, str] = field(default_factory=dict)
    architectures: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    elements: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    layers: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    archives: Mapping[str, str] = field(default_factory=dict)
    cached: Mapping[str, str] = field(default_factory=dict)
    scratch: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def artifact(self) -> Artifact:
        """The canonical artifact."""
        return self.artifacts[0]

    @property
    def modules_signed(self) -> bool:
        """Whether the driver, if there is one, is signed by a key that guests trust."""
        driver = self.driver
        return not driver or "certificate" in driver or driver.get("source") == "precompiled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A check of a build. `passed` is None only where the check does not apply to this kind of image."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """All checks of one build at one time (`checked_at`, ISO 8601 in UTC)."""

    variant: str
    build_id: str
    checked_at: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether there are checks and none of them failed."""
        return bool(self.checks) and all(check.passed is not False for check in self.checks)

    @property
    def booted(self) -> bool:
        """Whether a boot was among the checks."""
        return any(check.name == "boot-reached" for check in self.checks)


def read_manifest(path: Path) -> Manifest:
    """Read manifest.json; VerifyError, with the remedy, when it is missing, is not JSON, or a field is wrong."""
    return parse_manifest(_content(path), path)


def parse_manifest(content: bytes, path: Path | str) -> Manifest:
    """The same for content that was read already; `path` is for error messages."""
    raw = _object(content, path)
    try:
        artifacts = tuple(_typed(Artifact(**item)) for item in raw.pop("artifacts"))
        manifest = _typed(Manifest(artifacts=artifacts, **raw))
        made_at = datetime.fromisoformat(manifest.created_at)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise _corrupt(path, str(error)) from error
    if not artifacts:
        raise _corrupt(path, "it has no artifact")
    if made_at.tzinfo is None:
        raise _corrupt(path, f"created_at is {manifest.created_at}, without a time zone")
    lacking = {"distribution", "release", "architecture"} - manifest.base.keys()
    if manifest.base and lacking:
        raise _corrupt(path, f"its base lacks {' and '.join(sorted(lacking))}")
    return manifest


def read_verification(path: Path) -> Verification:
    """Read verify.json; VerifyError when it is missing, is not JSON, or a field is wrong."""
    return parse_verification(_content(path), path)


def parse_verification(content: bytes, path: Path | str) -> Verification:
    """The same for content that was read already."""
    raw = _object(content, path)
    try:
        checks = tuple(_typed(Check(**item)) for item in raw.pop("checks"))
        return _typed(Verification(checks=checks, **raw))
    except (TypeError, KeyError, AttributeError) as error:
        raise _corrupt(path, str(error)) from error


def read_object(path: Path) -> dict[str, Any]:
    """Read any JSON file of a build; VerifyError when it is missing or is not a JSON object."""
    return _object(_content(path), path)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _corrupt(path, "it is missing") from None
    except OSError as error:
        raise _corrupt(path, str(error)) from error


def _object(content: bytes, path: Path | str) -> dict[str, Any]:
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, str(error)) from error
    if not isinstance(raw, dict):
        raise _corrupt(path, "it is not an object")
    return raw


def _typed(value: _Value) -> _Value:
    """The value, if every field is of its declared type; TypeError that names the first that is not."""
    for name, kind in get_type_hints(type(value)).items():
        if not _is_of(kind, getattr(value, name)):
            raise TypeError(f"{name} is {getattr(value, name)!r}")
    return value


def _is_of(kind: Any, value: object) -> bool:
    """Whether a value from JSON is of a type that the dataclasses above use."""
    match get_origin(kind):
        case None:
            return type(value) is kind or (kind is float and type(value) is int)
        case types.UnionType:
            return any(_is_of(each, value) for each in get_args(kind))
        case collections.abc.Mapping:
            return isinstance(value, dict) and all(_is_of(get_args(kind)[1], each) for each in value.values())
        case _:  # a tuple of dataclasses, each checked when it was made
            return isinstance(value, tuple)


def _corrupt(path: Path | str, why: str) -> VerifyError:
    return VerifyError(f"{path} cannot be used: {why}", remedy="Delete the damaged folder and build the variant again.")
