"""Folders of the project."""

from pathlib import Path

OURS = Path(__file__).resolve().parent.parent.parent / "elements"

PROJECT = Path(__file__).resolve().parent.parent.parent
