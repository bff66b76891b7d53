"""URLs as they may be shown, without passwords."""

import re
from urllib.parse import urlsplit


def shown(url: str) -> str:
    """A URL as it may be said: without a password, and without a query, which may have a token."""
    return without_password(url).partition("?")[0]


def without_user(url: str) -> str:
    """A URL as manifests have it: without a user or a password."""
    return re.sub("(?<=://)[^/]*@", "", url)


def has_password(uri: str) -> bool:
    """Whether a URI has a user or a password in it."""
    return "@" in urlsplit(uri).netloc


def without_password(uri: str) -> str:
    """The URI as it may be shown."""
    return re.sub(r"(?<=://)[^/]*@", "***@", uri)
