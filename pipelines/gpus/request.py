"""Request of an image for a driver, and the selection that answers it."""

from dataclasses import dataclass
from typing import Literal

from pipelines.gpus.database import Modules


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a variant requests: `gpus` are models or generations, `release` is a code name.

    None leaves a value to the resolver.
    """

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
    def requested_branch(self) -> int | None:
        """The branch that is requested, by its number or by a version."""
        return self.branch if self.version is None else int(self.version.partition(".")[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What the image gets. `branch` is None where no driver is installed, or where only the given files decide."""

    branch: int | None
    modules: Modules
    toolkit: str | None
    reasons: tuple[str, ...]


class Impossible(ValueError):
    """A request that cannot be met; the text is the reason."""
