"""Folders of the checkout, and of the diskimage-builder that is installed."""

from pathlib import Path

import diskimage_builder

PROJECT = Path(__file__).resolve().parent.parent.parent
BUILDS = PROJECT / "builds"
ELEMENTS = PROJECT / "elements"
FAKES = PROJECT / "tests" / "support" / "fakes"
DIB_ELEMENTS = Path(diskimage_builder.__file__).parent / "elements"
