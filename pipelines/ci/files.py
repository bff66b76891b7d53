"""Files of a CI system: printed, written, or compared with those in their place."""

from pathlib import Path

from pipelines.ci import render
from pipelines.ci.options import Request
from pipelines.util import console, process
from pipelines.util.errors import HostError, ProgramError, UsageError

_UNITS = Path("/etc/systemd/system")
_SECONDS = 20.0


def show(request: Request) -> None:
    """Print the files, each below its name."""
    _require_calendar(request)
    for name, content in render.of(request).items():
        console.say(f"# {name}\n{content}")


def write(request: Request, folder: Path) -> None:
    """Write the files into a folder; those that are up to date stay untouched."""
    _require_calendar(request)
    for name in differing(request, folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render.of(request)[name], encoding="utf-8")
        console.say(f"wrote {path}")


def check(request: Request, folder: Path | None) -> bool:
    """Whether the files in their place are up to date; warns about each that is not."""
    place = folder or home(request)
    wrong = differing(request, place)
    for name in wrong:
        state = "is not up to date with images.yaml" if (place / name).exists() else "is missing"
        console.warn(f"{place / name} {state}; write it with: {request.again} --output {place}")
    return not wrong


def differing(request: Request, folder: Path) -> list[str]:
    """The files that are missing from a folder, or differ from what would be written."""
    return [name for name, content in render.of(request).items() if _content(folder / name) != content.encode()]


def home(request: Request) -> Path:
    """Where the system looks for its files."""
    return _UNITS if request.system == "systemd" else Path(request.project)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _require_calendar(request: Request) -> None:
    """Raise UsageError for a time that systemd does not understand."""
    if request.system != "systemd":
        return
    try:
        process.run(["systemd-analyze", "calendar", request.schedule], deadline=_SECONDS)
    except ProgramError as error:
        what = f"{request.schedule!r} is not a valid time for systemd"
        raise UsageError(what, remedy="Write --schedule as in `man systemd.time`, such as '*-*-* 02:17:00'.") from error
    except HostError:
        console.warn("the schedule was not checked: systemd-analyze is not installed on this host")
