"""Facts about GPUs, driver branches and CUDA: gpus.yaml as frozen values.

Every block of that file names its public source.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pipelines.util import files

Modules = Literal["open", "proprietary"]
ANY_BRANCH = ("runfile", "local")  # sources of which the operator gives the files
LONG_LIVED = ("LTS", "production")


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """A GPU architecture. `last_branch` and `last_cuda` (a major version) are None where support goes on."""

    name: str
    label: str
    first_branch: int
    first_cuda: str
    modules: tuple[Modules, ...]
    last_branch: int | None = None
    last_cuda: int | None = None
    architecture: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A GPU model.

    `pci`: device ID → memory in GiB. `bar`: its largest BAR1 in GiB, 0 where its memory is not behind a BAR.
    """

    name: str
    label: str
    generation: Generation
    capability: str
    pci: Mapping[str, int]
    first_branch: int
    first_cuda: str
    bar: float = 0
    nvlink: bool = False
    nvswitch: bool = False

    def serves(self, branch: int) -> bool:
        """Whether a driver branch knows this GPU."""
        last = self.generation.last_branch
        return self.first_branch <= branch and (last is None or branch <= last)


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """A driver branch. `end_of_life` is None where it is not published; `cuda` came with it."""

    number: int
    kind: str
    modules: tuple[Modules, ...]
    default: Modules
    end_of_life: date | None = None
    cuda: str | None = None

    @property
    def long_lived(self) -> bool:
        """Whether it is meant for years in production."""
        return self.kind in LONG_LIVED


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """A distribution's release: which branches each source has, and its own archive's CUDA toolkit."""

    label: str
    offers: Mapping[str, tuple[int, ...]]
    toolkit: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """All of gpus.yaml.

    `toolkits`: CUDA's version → the branch that came with it. `minimum_branch`: CUDA's major version → the oldest
    branch that runs it. `releases`: "debian trixie" → what it has.
    """

    generations: Mapping[str, Generation]
    gpus: Mapping[str, Gpu]
    branches: Mapping[int, Branch]
    toolkits: Mapping[str, int]
    minimum_branch: Mapping[int, int]
    releases: Mapping[str, Release]

    def preferred(self) -> tuple[int, ...]:
        """All branches in the order of preference: the long-lived ones first, newest first."""
        return tuple(sorted(self.branches, key=lambda number: (self.branches[number].long_lived, number), reverse=True))


@cache
def facts() -> Facts:
    """The contents of gpus.yaml."""
    raw = files.read_yaml(Path(__file__).with_name("gpus.yaml"))
    generations = {name: Generation(name=name, **_tuples(values)) for name, values in raw["generations"].items()}
    return Facts(
        generations=generations,
        gpus={name: _gpu(name, values, generations) for name, values in raw["gpus"].items()},
        branches={number: Branch(number=number, **_tuples(values)) for number, values in raw["branches"].items()},
        toolkits=raw["toolkits"],
        minimum_branch=raw["minimum_branch"],
        releases={name: _release(values) for name, values in raw["releases"].items()},
    )


def known() -> tuple[str, ...]:
    """The names that `gpus` takes: models, then generations."""
    return (*facts().gpus, *facts().generations)


def models_of(name: str) -> tuple[str, ...]:
    """The models of a generation, or the model itself; KeyError for an unknown name."""
    if name in facts().generations:
        return tuple(gpu.name for gpu in facts().gpus.values() if gpu.generation.name == name)
    return (facts().gpus[name].name,)


def cuda_version(version: str) -> tuple[int, ...]:
    """CUDA's version as numbers that compare: "12.8" → (12, 8)."""
    return tuple(int(part) for part in version.split("."))


def _gpu(name: str, values: Mapping[str, Any], generations: Mapping[str, Generation]) -> Gpu:
    generation = generations[values["generation"]]
    usual: dict[str, Any] = {"first_branch": generation.first_branch, "first_cuda": generation.first_cuda}
    return Gpu(**(usual | dict(values) | {"name": name, "generation": generation}))


def _release(values: Mapping[str, Any]) -> Release:
    offers = {source: tuple(branches) for source, branches in values.items() if isinstance(branches, list)}
    return Release(label=values["label"], toolkit=values.get("toolkit"), offers=offers)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
