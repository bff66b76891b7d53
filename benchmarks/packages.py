"""Packages that every tool has to install."""

from dataclasses import dataclass
from pathlib import Path

import yaml

LIST = Path(__file__).with_name("packages.yaml")


@dataclass(frozen=True, kw_only=True, slots=True)
class Packages:
    """Debian packages by name: the `driver`'s, and the `system`'s before it."""

    system: tuple[str, ...]
    driver: tuple[str, ...]


def requested() -> Packages:
    """The list that packages.yaml has."""
    raw = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    return Packages(system=tuple(raw["system"]), driver=tuple(raw["driver"]))
