"""Which driver fits?

GPUs and a guest → the driver's branch, its kernel modules and whether the CUDA toolkit fits; or a refusal that says why
and what works instead. Pure: no I/O beyond reading gpus.yaml, no clock.
"""

from dataclasses import dataclass
from datetime import date
from typing import Literal

from pipelines.gpu_facts import by_pci_id, known, models_of
from pipelines.placement import Placement, placement

__all__ = ["Choice", "Impossible", "Placement", "Wish", "by_pci_id", "known", "models_of", "placement", "resolve", "warnings"]

Modules = Literal["open", "proprietary"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a variant asks for; `gpus` are models or generations, `release` is a code name, None is "you choose"."""

    distribution: str
    release: str
    architecture: str = "amd64"
    source: str = "archive"
    gpus: tuple[str, ...] = ()
    branch: int | None = None
    version: str | None = None
    modules: Literal["auto", "open", "proprietary"] = "auto"
    toolkit: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What the image gets. `branch` is None where nothing is installed, or only the given files decide."""

    branch: int | None
    modules: Modules
    toolkit: str | None
    reasons: tuple[str, ...]


class Impossible(ValueError):
    """Cannot work: the text is the reason and what to write instead; `nearest` are wishes that resolve."""

    def __init__(self, why: str, nearest: tuple[Wish, ...]) -> None:
        super().__init__(why)
        self.nearest = nearest


def resolve(wish: Wish) -> Choice:
    """The driver that serves all GPUs of the wish; Impossible where there is none."""
    raise NotImplementedError(wish)


def warnings(chosen: "Choice | int | None", today: date) -> tuple[str, ...]:
    """What to say of a branch that is past or within 90 days of its end of life, with what to write instead."""
    raise NotImplementedError((chosen, today))
