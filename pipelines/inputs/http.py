"""Downloads over HTTP.

Every wait has a deadline, an interrupted transfer continues where it ended, and messages contain no passwords. The
caller verifies the content. (requests speaks HTTP; continuing is ours, since pooch starts again from the beginning, and
`curl -C -` sends no If-Range and would join the parts of two versions of a file.)
"""

import errno
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipelines.cache import downloads
from pipelines.util import units, urls
from pipelines.util.console import meter, note
from pipelines.util.errors import BuildError, HostError

if TYPE_CHECKING:
    from requests import Response

_PIECE = 2**18
_SMALL = 2**24  # bytes, more than any list of checksums has
_NETWORK = "Check the network and the proxy (http_proxy, https_proxy), and the URL in images.yaml."
_RESUMES = "The next run continues the download."

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a download waits, in seconds: for a connection, for data (`slowest` bytes a second), between tries."""

    connect: float = 10.0
    read: float = 60.0
    slowest: int = 1024
    tries: int = 4
    pause: float = 2.0


# For questions that may save work: ten seconds at most. Downloads that are needed are given more time.
BRIEF = Patience(connect=4, read=4.5, slowest=2**14, tries=2, pause=0.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A small file, and the time of the answer by its server's clock (None if not given)."""

    content: bytes
    at: datetime | None = None


class _Temporary(Exception):
    """A failure that the next try may not have; the text is the reason."""


def small(url: str, patience: Patience) -> bytes:
    """The content of a small file: a list of checksums, a signature. BuildError when no try succeeds."""
    return dated(url, patience).content


def dated(url: str, patience: Patience) -> Answer:
    """The same, with the time of the answer."""

    def once() -> Answer:
        with _ask(url, {}, patience) as response:
            content = b"".join(_pieces(response, patience, limit=_SMALL, url=url))
            return Answer(content=content, at=moment(response.headers.get("Date", "")))

    return _tried(url, patience, once)


def moment(text: str) -> datetime | None:
    """A time as servers and repositories write it, "Sun, 22 Nov 2026 08:00:00 GMT"; None when it is not valid."""
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def into(part: Path, url: str, patience: Patience) -> None:
    """Download a file to `part`; what `part` contains already is not requested again, if the server supports that.

    BuildError when no try succeeds, with the reason of each; HostError when the disk is too small. What has arrived
    stays in `part`, unless the disk is full.
    """
    _tried(url, patience, lambda: _continue(part, url, patience), _RESUMES)


def _continue(part: Path, url: str, patience: Patience) -> None:
    """One try: the missing part, or all of it from a server without ranges or with another file by now."""
    there = part.stat().st_size if part.exists() else 0
    asked = {}
    if there:
        asked["Range"] = f"bytes={there}-"
        if (known := downloads.validator(part)).exists():
            asked["If-Range"] = known.read_text(encoding="utf-8")
    with _ask(url, asked, patience) as response:
        if response.status_code == 416:
            _past_the_end(part, there, response)
            return
        if response.status_code == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
            downloads.discard(part)
            raise _Temporary("the server continued at another position than requested")
        if response.status_code != 206:
            there = 0
            downloads.discard(part)
        _write(part, there, response, url, patience)


def _past_the_end(part: Path, there: int, response: "Response") -> None:
    """The server has no more bytes: the file is complete, or has become shorter."""
    if response.headers.get("Content-Range") != f"bytes */{there}":
        downloads.discard(part)
        raise _Temporary("the file changed between two tries")


def _write(part: Path, there: int, response: "Response", url: str, patience: Patience) -> None:
    length = response.headers.get("Content-Length", "")
    missing = int(length) if length.isdigit() else None
    if missing is not None:
        _require_space(part.parent, missing)
    if not there:
        _remember(part, response)
    total = None if missing is None else there + missing
    label = urls.file_name(url)
    try:
        with part.open("r+b" if there else "wb") as sink, meter(label, total, there) as progress:
            sink.seek(there)
            for piece in _pieces(response, patience):
                sink.write(piece)
                progress.advance(len(piece))
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        downloads.discard(part)
        raise _full(part.parent, missing) from error


def _pieces(response: "Response", patience: Patience, *, limit: int | None = None, url: str = "") -> Iterator[bytes]:
    """The body as the server sends it, not decoded; _Temporary when it is cut off or too slow."""
    from urllib3.exceptions import HTTPError  # noqa: PLC0415  # as in _ask

    total, since, began = 0, 0, time.monotonic()
    while True:
        try:
            piece = response.raw.read1(_PIECE, decode_content=False)
        except HTTPError as error:
            raise _Temporary(_reason(error, patience)) from error
        if not piece:
            return
        yield piece
        total, since = total + len(piece), since + len(piece)
        if limit is not None and total > limit:
            raise BuildError(f"{urls.shown(url)} has more than {limit} bytes", remedy="Correct the URL.")
        if (seconds := time.monotonic() - began) >= patience.read:
            if since < patience.slowest * seconds:
                raise _Temporary(f"only {since} bytes arrived in {seconds:.0f} s")
            since, began = 0, time.monotonic()


def _ask(url: str, headers: Mapping[str, str], patience: Patience) -> "Response":
    """The answer to a GET, with its body not read yet. BuildError for a permanent failure."""
    import requests  # noqa: PLC0415  # slow to import, and most commands download nothing

    try:
        response = requests.get(
            url,
            headers={"Accept-Encoding": "identity", **headers},
            stream=True,
            timeout=(patience.connect, patience.read),
        )
    except (requests.exceptions.SSLError, requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        what = f"{urls.shown(url)} is not a valid URL or not trusted: {_reason(error, patience)}"
        raise BuildError(what, remedy="Correct the URL in images.yaml, or this host's certificates.") from error
    except requests.RequestException as error:
        raise _Temporary(_reason(error, patience)) from error
    status = response.status_code
    if status in {200, 206} or (status == 416 and "Range" in headers):
        return response
    response.close()
    if status in {408, 429} or status >= 500:
        raise _Temporary(f"the server answered {status} {response.reason}")
    raise BuildError(f"{urls.shown(url)}: the server answered {status} {response.reason}", remedy=_NETWORK)


def _tried(url: str, patience: Patience, once: Callable[[], T], then: str = "") -> T:
    """The result of the first try that succeeds."""
    reasons: list[str] = []
    for number in range(1, patience.tries + 1):
        try:
            return once()
        except _Temporary as error:
            reasons.append(str(error))
        if number < patience.tries:
            note(f"{urls.shown(url)}: {reasons[-1]}; trying again ({number} of {patience.tries - 1})")
            time.sleep(patience.pause * 2 ** (number - 1))
    tries = "".join(f"\n  try {number}: {reason}" for number, reason in enumerate(reasons, 1))
    raise BuildError(f"{urls.shown(url)} cannot be downloaded:{tries}", remedy=f"{_NETWORK} {then}".strip())


def _reason(error: BaseException, patience: Patience) -> str:
    """The reason, in a few words. The libraries' own texts repeat the URL with its secrets."""
    from requests import ReadTimeout, Timeout  # noqa: PLC0415  # as in _ask
    from urllib3.exceptions import ProtocolError, ReadTimeoutError, TimeoutError  # noqa: PLC0415

    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    if any(isinstance(cause, ReadTimeout | ReadTimeoutError) for cause in causes):
        return f"no answer for {patience.read:g} s"
    if any(isinstance(cause, Timeout | TimeoutError) for cause in causes):
        return f"no connection after {patience.connect:g} s"
    if any(isinstance(cause, ProtocolError) for cause in causes):
        return "the connection was cut off"
    return type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and its causes, however the libraries wrapped them."""
    while error is not None:
        yield error
        wrapped = (getattr(error, "reason", None), *error.args, error.__cause__, error.__context__)
        error = next((each for each in wrapped if isinstance(each, BaseException)), None)


def _remember(part: Path, response: "Response") -> None:
    """Write down what identifies this version of the file: a strong ETag (RFC 9110, 13.1.5), else its date."""
    etag = response.headers.get("ETag", "")
    validator = etag if re.fullmatch(r'"[^"]*"', etag) else response.headers.get("Last-Modified", "")
    if validator:
        downloads.validator(part).write_text(validator, encoding="utf-8")


def _require_space(folder: Path, missing: int) -> None:
    if shutil.disk_usage(folder).free < missing:
        raise _full(folder, missing)


def _full(folder: Path, missing: int | None) -> HostError:
    free = units.size(shutil.disk_usage(folder).free)
    needs = "more" if missing is None else units.size(missing)
    what = f"{folder} has {free} free; the download needs {needs}"
    return HostError(what, remedy="Free some space, or put the builds and their cache elsewhere with --builds DIR.")
