"""What did we make?

A build is a folder, `builds/<variant>/<build_id>/`, and files are its only state:

    state.json      running, failed or complete; who holds it
    manifest.json   what was made, written once when the build is complete, never changed
    verify.json     the newest verification
    sbom.cdx.json   the same as a list of components, for other programs
    image.qcow2     the artifact        build.log   all of diskimage-builder's output

Every JSON file is written to a temporary name and then renamed, so a reader sees the old one or the new one.
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
    """One image file. `path` is relative to the build's folder; sizes are in bytes; digests are hexadecimal."""

    path: str
    format: str
    size: int
    virtual_size: int
    sha256: str
    sha512: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a complete build is.

    `created_at` is ISO 8601 in UTC. `base`, `driver` and `cuda` are flat mappings of strings (driver is empty
    without one, and has the certificate (PEM) where a site signed its modules; base has distribution, release and
    architecture, an imported image's also the type of its guest); `kernel` is the release that will boot, as in
    /lib/modules. `packages` maps name → version, `architectures` name → the package's architecture, `tools` program →
    version, `stages` a stage ("layer/stage") → seconds, `elements` name → digest, `parts` each input of the
    fingerprint, in an operator's words, → its digest. `inputs` maps a file from outside (base image, runfile) to its
    sha256. `layers` maps a layer to the seconds of its stages; `seconds` is the whole build's wall time, what is
    between the stages included. `archives` maps a package index that was used ("URL INDEX") to its sha256 when it first
    was; `cached` says what came out of the cache ("base layer" → key); `scratch` has the bytes of the guest's tree and
    of the scratch space at its peak.
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
        """Whether the driver, where there is one, is signed by a key that guests trust."""
        driver = self.driver
        return not driver or "certificate" in driver or driver.get("source") == "precompiled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One check of a build. `passed` is None only where the kind of image declares it not applicable."""

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
        """True when there are checks and none of them failed."""
        return bool(self.checks) and all(check.passed is not False for check in self.checks)

    @property
    def booted(self) -> bool:
        """Whether a boot was among the checks."""
        return any(check.name == "boot-reached" for check in self.checks)


def read_manifest(path: Path) -> Manifest:
    """Read manifest.json; VerifyError, with the remedy, when it is missing, no JSON, or a field is wrong."""
    return parse_manifest(_content(path), path)


def parse_manifest(content: bytes, path: Path | str) -> Manifest:
    """The same for what was read already; `path` says where, if it is wrong."""
    raw = _parsed(content, path)
    try:
        artifacts = tuple(_typed(Artifact(**item)) for item in raw.pop("artifacts"))
        manifest = _typed(Manifest(artifacts=artifacts, **raw))
        made_at = datetime.fromisoformat(manifest.created_at)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise _corrupt(path, str(error)) from error
    if not artifacts:
        raise _corrupt(path, "it names no artifact")
    if made_at.tzinfo is None:
        raise _corrupt(path, f"created_at is {manifest.created_at}, without a time zone")
    lacking = {"distribution", "release", "architecture"} - manifest.base.keys()
    if manifest.base and lacking:
        raise _corrupt(path, f"its base has no {' and no '.join(sorted(lacking))}")
    return manifest


def read_verification(path: Path) -> Verification:
    """Read verify.json; VerifyError when it is no JSON, or a field is wrong."""
    return parse_verification(_content(path), path)


def parse_verification(content: bytes, path: Path | str) -> Verification:
    """The same for what was read already."""
    raw = _parsed(content, path)
    try:
        checks = tuple(_typed(Check(**item)) for item in raw.pop("checks"))
        return _typed(Verification(checks=checks, **raw))
    except (TypeError, KeyError, AttributeError) as error:
        raise _corrupt(path, str(error)) from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _corrupt(path, "it is missing") from None
    except OSError as error:
        raise _corrupt(path, str(error)) from error


def _parsed(content: bytes, path: Path | str) -> dict[str, Any]:
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
        case _:  # a tuple of dataclasses, which were looked at when they were made
            return isinstance(value, tuple)


def _corrupt(path: Path | str, why: str) -> VerifyError:
    return VerifyError(f"{path} cannot be used: {why}", remedy="Build the variant again; delete the damaged folder.")
