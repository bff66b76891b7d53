"""Our own rules for elements, in addition to dib-lint and shellcheck.

Each takes an element's folder and yields what is wrong with it, in words.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tests.elements import reference

PHASES = {
    "root.d",
    "extra-data.d",
    "pre-install.d",
    "install.d",
    "post-install.d",
    "post-root.d",
    "block-device.d",
    "pre-finalise.d",
    "finalise.d",
    "cleanup.d",
    "environment.d",
}
_ON_HOST = {"root.d", "extra-data.d", "post-root.d", "block-device.d", "pre-finalise.d", "cleanup.d"}
_OF_A_FAMILY = re.compile(
    r"(?<![\w.-])(?:apt-\w+|dpkg(?:-\w+)?|dnf|yum|rpm|(?:update-|ls)initramfs|dracut)\b(?![.\w-])"
    r"|(?<![\w./-])apt(?= [a-z])"
)
# Set by DIB for every element; not the element's own environment.
_GIVEN = {"DIB_DEBUG_TRACE", "DIB_PYTHON_EXEC", "DIB_MANIFEST_SAVE_DIR", "DIB_RELEASE"}


def phase_scripts(element: Path) -> Iterator[Path]:
    """The scripts of all phases but environment.d."""
    for folder in sorted(element.glob("*.d")):
        if folder.name in PHASES - {"environment.d"}:
            yield from sorted(path for path in folder.iterdir() if path.is_file())


def names(element: Path) -> Iterator[str]:
    """dib-run-parts passes over a file with a dot in its name, or one that is not executable, without a word."""
    for script in phase_scripts(element):
        if not re.fullmatch(r"\d\d-[a-z0-9]+(-[a-z0-9]+)+", script.name):
            yield f"{script}: a phase's script is called NN-verb-object, without a dot"
        if not os.access(script, os.X_OK):
            yield f"{script}: is not executable, so DIB would not run it"


def headers(element: Path) -> Iterator[str]:
    """A script opens with where it runs and what it guarantees."""
    for script in phase_scripts(element):
        where = "Runs on the host" if script.parent.name in _ON_HOST else "Runs in the chroot"
        comment = " ".join(line.lstrip("# ") for line in script.read_text().splitlines()[1:12] if line.startswith("#"))
        if where not in comment:
            yield f"{script}: does not open with '{where}'"
        if "Guarantees" not in comment:
            yield f"{script}: does not say what it guarantees"


def lengths(element: Path) -> Iterator[str]:
    """A script that needs more than a screen or two does too much."""
    for script in phase_scripts(element):
        lines = len(script.read_text().splitlines())
        if lines > 70:
            yield f"{script}: has {lines} lines"


def documentation(element: Path) -> Iterator[str]:
    """Every DIB_* variable that an element reads is in its README."""
    for name in sorted(read_by(element) - {each.name for each in reference.variables(element)}):
        yield f"{element}: reads {name}, which README.rst does not explain below Environment"


def read_by(element: Path) -> set[str]:
    """The DIB_* variables that an element reads, but for those that DIB gives to all and those that it sets itself."""
    files = [path for path in element.rglob("*") if path.is_file() and path.suffix != ".rst"]
    names = {name for path in files for name in re.findall(r"\$\{?(DIB_[A-Z_]+)", path.read_text())}
    return {name for name in names - _GIVEN if not re.search(rf"export {name}=(?!\$|img-)", _environment(element))}


def defaults(element: Path) -> Iterator[str]:
    """The README has each variable's default, and where environment.d has one, it is the same."""
    set_here = dict(re.findall(r'export (DIB_\w+)=\$\{\1:-"?([^}"]*)"?\}', _environment(element)))
    for variable in reference.variables(element):
        value = set_here.get(variable.name, "")
        if not variable.default and not re.search(r"No default|'s own|cannot be set", variable.meaning):
            yield f"{element}: README.rst has no default of {variable.name}"
        elif value and "$" not in value and f"``{value}``" not in variable.default:
            yield f"{element}: {variable.name} is '{value}' by default, README.rst has another default"


def package_maps(element: Path) -> Iterator[str]:
    """A name that package-installs.yaml asks for and that is no package anywhere must be in pkg-map."""
    path = element / "pkg-map"
    if path.exists():
        try:
            json.loads(path.read_text())
        except ValueError as error:
            yield f"{path}: {error}"


def installs(element: Path) -> Iterator[str]:
    """DIB ignores package-installs.yaml and pkg-map without a word unless the element depends on their elements."""
    needs = (element / "element-deps").read_text().split() if (element / "element-deps").exists() else []
    for file, needed in (
        ("package-installs.yaml", "package-installs"),
        ("pkg-map", "pkg-map"),
        ("static", "install-static"),
    ):
        if (element / file).exists() and needed not in needs:
            yield f"{element}: has {file} but does not depend on {needed}"


def families(element: Path) -> Iterator[str]:
    """What differs by family of distributions is in guest-os of debian-family and redhat-family, and nowhere else."""
    if element.name.endswith("-family"):
        return
    for script in [*phase_scripts(element), *sorted(element.glob("bin/*"))]:
        if script.parent.name not in _ON_HOST:
            lines = [line for line in script.read_text().splitlines() if not line.lstrip().startswith("#")]
            for name in sorted(set(_OF_A_FAMILY.findall("\n".join(lines)))):
                yield f"{script}: runs {name}; call a subcommand of guest-os, which both families have"


def _environment(element: Path) -> str:
    return "".join(path.read_text() for path in sorted(element.glob("environment.d/*")))


RULES = (names, headers, lengths, documentation, defaults, package_maps, installs, families)
