"""Folders of the project."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
ELEMENTS = PROJECT / "elements"
