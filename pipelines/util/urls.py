"""What may be shown, logged and recorded of a URL: neither its user and password, nor its query.

One rule for all: a user may be a token, and so may anything in a query.
"""

import re
from urllib.parse import unquote, urlsplit


def shown(url: str) -> str:
    """The URL as messages, logs and manifests have it."""
    return re.sub("(?<=://)[^/]*@", "", url).partition("?")[0]


def file_name(url: str) -> str:
    """The last part of the URL's path."""
    return shown(url).rpartition("/")[2]


def has_password(url: str) -> bool:
    """Whether there is a password in the URL, beside a user or without one."""
    return bool(urlsplit(url).password)


def secrets(url: str) -> tuple[str, ...]:
    """What to hide in a text that may quote the URL: the password, as written and decoded, and the query."""
    # urlsplit wants a valid port; a password with a "#" or "/" in it is one all the same.
    written = re.match(r"[^:/]+://[^:@]*:(.*)@", url)
    found = {written[1], unquote(written[1])} if written else set()
    return tuple(sorted({*found, urlsplit(url).query} - {""}, key=len, reverse=True))
