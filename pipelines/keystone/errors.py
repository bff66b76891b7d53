"""What went wrong in the cloud, and what can the operator do about it?"""

import contextlib
import difflib
import html
import re
import traceback
from collections.abc import Iterator, Sequence

from pipelines.util.errors import CloudError

_REMEDIES = {
    400: "Glance does not accept this; compare with its API reference.",
    401: "Check the credentials in clouds.yaml (or OS_*): auth_url, user, project and their domains, password.",
    403: "Ask the cloud's administrators for that right, or for what Glance's policy allows: public images are for "
    "administrators, others belong to their project alone.",
    404: "Check that it still exists, and that this project sees it; then run the same command again.",
    409: "Somebody else may be changing it, or it is in use; look at `./inv status`, then run the same command again.",
    413: "The project's quota, or Glance's limit for one image, is too small: delete what is not needed "
    "(`./inv status` shows the retired images), or have it raised.",
    415: "Glance looked into the image and refused its format; verify the build.",
    503: "Glance is busy or in maintenance; run the same command again later.",
}
_AGAIN = "Run the same command again; what was done stays done. If it stays so, ask the cloud's administrators."

_CONNECTION = "keystoneauth1.exceptions.connection"
# glanceclient says "Error finding address" for each of these; the error of keystoneauth1 that it hides says why.
_CUT = ("CommunicationError", "InvalidEndpoint")
# Where an answer is read: what breaks there is the answer, whatever kind of exception it is.
_READERS = frozenset({"glanceclient", "keystoneauth1", "requests", "warlock"})


class GlanceError(CloudError):
    """A cloud refused or could not be reached. `status` is the HTTP status, None where there was no (clear) answer."""

    def __init__(self, what: str, *, remedy: str, status: int | None) -> None:
        super().__init__(what, remedy=remedy)
        self.status = status


@contextlib.contextmanager
def explained(cloud: str, doing: str) -> Iterator[None]:
    """Turn every exception of the OpenStack libraries, and of HTTP below them, into a GlanceError."""
    try:
        yield
    except Exception as error:
        explanation = _explain(error, f"{cloud}: cannot {doing}")
        if explanation is None:
            raise
        raise explanation from error


def unknown_cloud(name: str | None, known: Sequence[str]) -> GlanceError:
    """There is no cloud of that name (None: none was named, and there is no choosing)."""
    listing = ", ".join(known) or "none"
    if name is None:
        remedy = f"Name one with --cloud, or set OS_CLOUD. Known: {listing}."
        return GlanceError("no cloud is chosen", remedy=remedy, status=None)
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"Did you mean {close[0]}? " if close else ""
    remedy = f"{meant}Known: {listing}. Clouds are defined in clouds.yaml; `local` exists after `./inv cloud.up`."
    return GlanceError(f"there is no cloud named {name}", remedy=remedy, status=None)


def _explain(error: Exception, what: str) -> GlanceError | None:
    """None for what is no affair of the cloud: our own errors and our own bugs.

    Exceptions are told by where they come from, so that nothing slow is imported for them.
    """
    if type(error).__name__ in _CUT and _home(error) == "glanceclient" and isinstance(error.__context__, Exception):
        error = error.__context__
    home = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    status = _status(error)
    if "glanceclient" in home or ("keystoneauth1" in home and status):
        return GlanceError(f"{what}: {_said(error, status)}", remedy=_REMEDIES.get(status or 0, _AGAIN), status=status)
    if "requests" in home or any(kind.__module__ == _CONNECTION for kind in type(error).__mro__):
        remedy = f"Check the address and the network, and that the service runs. {_AGAIN}"
        return GlanceError(f"{what}: {_cut(error)}", remedy=remedy, status=None)
    if home & {"keystoneauth1", "openstack", "yaml"}:
        return GlanceError(f"{what}: {_plain(error)}", remedy="Check this cloud in clouds.yaml (or OS_*).", status=None)
    return _unreadable(error, what)


def _unreadable(error: Exception, what: str) -> GlanceError | None:
    """Our values do not fit the schema that Glance gave, or what answered is no Glance; else None."""
    if isinstance(error.__context__, Exception) and _home(error.__context__) == "warlock":
        return GlanceError(f"{what}: {_plain(error)}", remedy=_REMEDIES[400], status=None)
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if str(frame.f_globals.get("__name__")).partition(".")[0] not in _READERS:
        return None
    remedy = "Check that the image service's address is Glance's, and what stands before it."
    return GlanceError(f"{what}: the answer is not Glance's ({_plain(error)})", remedy=remedy, status=None)


def _home(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _status(error: Exception) -> int | None:
    """An answer's HTTP status. glanceclient has no class for some, 415 and 429 among them: Glance's page says which."""
    known = getattr(error, "http_status", getattr(error, "code", None))
    if isinstance(known, int):
        return known
    found = re.match(r"(\d{3}) ", str(getattr(error, "details", "")))
    return int(found[1]) if found else None


def _said(error: Exception, status: int | None) -> str:
    """What the service says: Glance's page, which glanceclient took apart, or Keystone's JSON; one line of it."""
    response = getattr(error, "response", None)
    text = response.text if response is not None else str(getattr(error, "details", ""))
    found = re.search(r'"message":\s*"([^"]+)"', text)
    text = found[1] if found else re.sub(r"<(title)>.*?</\1>|<h1>.*?</h1>|<[^>]+>", " ", text, flags=re.S)
    text = " ".join(html.unescape(text).split()).removeprefix(f"{status} ")
    return f"HTTP {status or 'error'}: {text[:300] or _plain(error)}"


def _cut(error: BaseException) -> str:
    """Where no connection was made or kept, and the operating system's word for why."""
    where, inner = str(error).partition(": HTTP")[0], error
    while inner.__cause__ or inner.__context__:
        inner = inner.__cause__ or inner.__context__ or inner
    why = getattr(inner, "strerror", None) or type(inner).__name__
    return f"{' '.join(where.split())[:200]} ({why})"


def _plain(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
