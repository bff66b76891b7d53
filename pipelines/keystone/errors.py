"""Errors of OpenStack services, with what the operator can do about them."""

import contextlib
import difflib
import html
import re
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from pipelines.util.errors import CloudError

# What to do about an HTTP status, whichever service answers it.
REMEDIES: Mapping[int, str] = {
    401: "Check the credentials in clouds.yaml (or OS_*): auth_url, user, project and their domains, password.",
    403: "Ask the cloud's administrators for the right to do this.",
    404: "Check that it still exists and that this project can see it; then run the same command again.",
    409: "It may be in use, or another process may be changing it; look at `./inv status`, then run the same command "
    "again.",
    503: "The service is busy or in maintenance; run the same command again later.",
}
AGAIN = "Run the same command again; finished steps are not repeated. If that fails, ask the cloud's administrators."

_CONNECTION = "keystoneauth1.exceptions.connection"
# Modules that parse an answer: whatever exception starts there, the answer is at fault.
READERS = frozenset({"keystoneauth1", "requests"})


class ServiceError(CloudError):
    """A cloud's service refused or could not be reached. `status` is the HTTP status, None without a clear answer."""

    def __init__(self, what: str, *, remedy: str, status: int | None) -> None:
        super().__init__(what, remedy=remedy)
        self.status = status


Explain = Callable[[Exception, str], ServiceError | None]


def explain(
    error: Exception, what: str, *, service: str = "OpenStack", readers: Collection[str] = READERS
) -> ServiceError | None:
    """What an exception of keystoneauth1, openstacksdk or requests means; None for our own errors and our own bugs.

    Exceptions are told apart by the module that defines them, so that nothing slow is imported for them. `readers`:
    packages that parse answers of the service.
    """
    home, status = homes(error), http_status(error)
    if status and home & {"keystoneauth1", "requests"}:
        return refused(error, what, REMEDIES)
    if "requests" in home or any(kind.__module__ == _CONNECTION for kind in type(error).__mro__):
        remedy = f"Check the address and the network, and that the service is running. {AGAIN}"
        return ServiceError(f"{what}: {_connection_failure(error)}", remedy=remedy, status=None)
    if home & {"keystoneauth1", "openstack", "yaml"}:
        return ServiceError(
            f"{what}: {one_line(error)}", remedy="Check this cloud in clouds.yaml (or OS_*).", status=None
        )
    if _raised_in(error) in readers:
        remedy = "Check the service's address, and any proxy in front of it."
        return ServiceError(f"{what}: the answer is not {service}'s ({one_line(error)})", remedy=remedy, status=None)
    return None


@contextlib.contextmanager
def explained(cloud: str, doing: str, explain: Explain = explain) -> Iterator[None]:
    """Turn every exception of the OpenStack libraries, and of HTTP below them, into a ServiceError."""
    try:
        yield
    except Exception as error:
        explanation = explain(error, f"{cloud}: cannot {doing}")
        if explanation is None:
            raise
        raise explanation from error


def unknown_cloud(name: str, known: Sequence[str]) -> ServiceError:
    """There is no cloud of that name."""
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"Did you mean {close[0]}? " if close else ""
    remedy = (
        f"{meant}Known clouds: {', '.join(known) or 'none'}. Clouds are defined in clouds.yaml; "
        "`local` exists after `./inv cloud.up`."
    )
    return ServiceError(f"there is no cloud named {name}", remedy=remedy, status=None)


def refused(error: Exception, what: str, remedies: Mapping[int, str]) -> ServiceError:
    """The service answered with an error."""
    status = http_status(error)
    return ServiceError(f"{what}: {_reported(error, status)}", remedy=remedies.get(status or 0, AGAIN), status=status)


def homes(error: BaseException) -> frozenset[str]:
    """The top-level packages that define an exception's class and its base classes."""
    return frozenset(kind.__module__.partition(".")[0] for kind in type(error).__mro__)


def _raised_in(error: BaseException) -> str:
    """The top-level package of the code that raised an exception."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def http_status(error: Exception) -> int | None:
    """An answer's HTTP status. glanceclient has no class for some, 415 and 429 among them: Glance's page has it."""
    response = getattr(error, "response", None)
    known = getattr(error, "http_status", getattr(error, "code", getattr(response, "status_code", None)))
    if isinstance(known, int):
        return known
    found = re.match(r"(\d{3}) ", str(getattr(error, "details", "")))
    return int(found[1]) if found else None


def one_line(error: BaseException) -> str:
    """An exception's own text, or the name of its class."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _reported(error: Exception, status: int | None) -> str:
    """One line of the answer: of JSON its message, of an HTML page its text."""
    response = getattr(error, "response", None)
    text = response.text if response is not None else str(getattr(error, "details", ""))
    found = re.search(r'"message":\s*"([^"]+)"', text)
    text = found[1] if found else re.sub(r"<(title)>.*?</\1>|<h1>.*?</h1>|<[^>]+>", " ", text, flags=re.S)
    text = " ".join(html.unescape(text).split()).removeprefix(f"{status} ")
    return f"HTTP {status or 'error'}: {text[:300] or one_line(error)}"


def _connection_failure(error: BaseException) -> str:
    """The address that could not be reached, and the operating system's reason."""
    where, inner = str(error).partition(": HTTP")[0], error
    while inner.__cause__ or inner.__context__:
        inner = inner.__cause__ or inner.__context__ or inner
    why = getattr(inner, "strerror", None) or type(inner).__name__
    return f"{' '.join(where.split())[:200]} ({why})"
