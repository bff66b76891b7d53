"""Folders of the project, and the name of its command: in a checkout, or as installed by pip.

A checkout has everything in one folder. An installed package has its elements inside, and a site's own files in the
folder in which the command is called, as other command line tools have it.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_PACKAGED_ELEMENTS = _PACKAGE / "elements"  # pyproject.toml puts them there in the wheel

INSTALLED = _PACKAGED_ELEMENTS.is_dir()
# Where images.yaml, builds/ and .cloud/ are, unless an option says otherwise.
PROJECT = Path.cwd() if INSTALLED else _PACKAGE.parent
ELEMENTS = _PACKAGED_ELEMENTS if INSTALLED else _PACKAGE.parent / "elements"
COMMAND = "gpu-images" if INSTALLED else "./inv"
