"""What an image asks of the driver, and what it gets."""

from dataclasses import dataclass
from typing import Literal

from pipelines.gpus.database import Modules


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a variant asks for: `gpus` are models or generations, `release` is a code name; None means "you choose"."""

    distribution: str
    release: str
    architecture: str = "amd64"
    source: str = "archive"
    gpus: tuple[str, ...] = ()
    branch: int | None = None
    version: str | None = None
    modules: Literal["auto", "open", "proprietary"] = "auto"
    toolkit: str | None = None

    @property
    def asked_branch(self) -> int | None:
        """The branch that is asked for, by its number or by a version."""
        return self.branch if self.version is None else int(self.version.partition(".")[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What the image gets. `branch` is None where no driver is installed, or where only the given files decide."""

    branch: int | None
    modules: Modules
    toolkit: str | None
    reasons: tuple[str, ...]


class Refused(ValueError):
    """A rule is broken; the text is the reason."""
