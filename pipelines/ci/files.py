"""Are the files of a CI system what images.yaml asks for?

Printed, written, or compared with what lies there.
"""

from pathlib import Path

from pipelines.ci import render
from pipelines.ci.options import Wish
from pipelines.util import console, process
from pipelines.util.errors import HostError, ProgramError, UsageError

_UNITS = Path("/etc/systemd/system")
_SECONDS = 20.0


def show(wish: Wish) -> None:
    """Print the files, each below its name."""
    _require_calendar(wish)
    for name, content in render.of(wish).items():
        console.say(f"# {name}\n{content}")


def write(wish: Wish, folder: Path) -> None:
    """Write the files into a folder; those that are right already stay untouched."""
    _require_calendar(wish)
    for name in differing(wish, folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render.of(wish)[name], encoding="utf-8")
        console.say(f"wrote {path}")


def check(wish: Wish, folder: Path | None) -> bool:
    """Whether the files are there as they would be written; says which are not."""
    place = folder or home(wish)
    wrong = differing(wish, place)
    for name in wrong:
        state = "is not what images.yaml asks for now" if (place / name).exists() else "is missing"
        console.warn(f"{place / name} {state}; write it with: {wish.again} --output {place}")
    return not wrong


def differing(wish: Wish, folder: Path) -> list[str]:
    """The files that are missing from a folder, or not what would be written."""
    return [name for name, content in render.of(wish).items() if _content(folder / name) != content.encode()]


def home(wish: Wish) -> Path:
    """Where the system looks for its files."""
    return _UNITS if wish.system == "systemd" else Path(wish.project)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _require_calendar(wish: Wish) -> None:
    """UsageError for a time that systemd does not understand."""
    if wish.system != "systemd":
        return
    try:
        process.run(["systemd-analyze", "calendar", wish.schedule], deadline=_SECONDS)
    except ProgramError as error:
        what = f"systemd knows no time {wish.schedule!r}"
        raise UsageError(what, remedy="Write --schedule as in `man systemd.time`, such as '*-*-* 02:17:00'.") from error
    except HostError:
        console.warn("systemd-analyze is not here, so that the schedule was not checked")
