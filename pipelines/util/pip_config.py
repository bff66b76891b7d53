"""pip's configuration in uv's terms, since uv does not read it. Standard library only, as the bootstrap is."""

import ast
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

_TRUE = frozenset({"y", "yes", "t", "true", "on", "1"})


def settings(listed: str) -> dict[str, str]:
    """What `pip config list` prints, as `pip install` takes it: variables, else [install], else [global].

    Like pip, passes over empty values.
    """
    found = {}
    for section in ("global", "install", ":env:"):
        for line in listed.splitlines():
            where, _, rest = line.partition(".")
            name, equals, value = rest.partition("=")
            if where == section and equals and (text := str(ast.literal_eval(value))):
                found[name] = text
    return found


def ambiguous(listed: str) -> list[str]:
    """Settings that are listed more than once. `pip config get` has the one that counts.

    pip 26.3 lists a setting for each file that has it, in the order of the files' names; 23.2 the one that counts.
    """
    names = (line.partition("=") for line in listed.splitlines())
    counts = Counter(name for name, equals, _ in names if equals)
    return [name for name, count in counts.items() if count > 1]


def uv_environment(configured: Mapping[str, str], cache: str) -> dict[str, str]:
    """uv's variables that mean what pip's settings do. `cache` is pip's folder, empty when it has none.

    In variables, since an index's URL may have a password, and arguments can be read by every user. A variable of uv's
    that is set already wins.
    """
    wanted = {
        "UV_DEFAULT_INDEX": configured.get("index-url", ""),
        "UV_EXTRA_INDEX_URL": " ".join(filter(_exists, configured.get("extra-index-url", "").split())),
        "UV_FIND_LINKS": ",".join(map(_absolute, filter(_exists, configured.get("find-links", "").split()))),
        "UV_NO_INDEX": "1" if configured.get("no-index", "").lower() in _TRUE else "",
        "UV_INSECURE_HOST": " ".join(configured.get("trusted-host", "").split()),
        # Like pip, the best of all indexes; the digests say which files are right.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_KEYRING_PROVIDER": "subprocess" if configured.get("keyring-provider") == "subprocess" else "",
        "UV_HTTP_TIMEOUT": _whole(configured.get("timeout", configured.get("default-timeout", ""))),
        "UV_HTTP_RETRIES": configured.get("retries", ""),
        "SSL_CERT_FILE": os.path.expanduser(configured.get("cert", "")),  # "" stays so
        "SSL_CLIENT_CERT": os.path.expanduser(configured.get("client-cert", "")),
        "HTTP_PROXY": configured.get("proxy", ""),
        "HTTPS_PROXY": configured.get("proxy", ""),
        # In pip's own folder, which CI systems keep from one run to the next.
        "UV_CACHE_DIR": str(Path(cache) / "uv") if cache and _is_ours(Path(cache)) else "",
    }
    if not wanted["UV_CACHE_DIR"]:
        wanted["UV_NO_CACHE"] = "1"
    return {name: value for name, value in wanted.items() if value and not os.environ.get(name)}


def _whole(seconds: str) -> str:
    """Whole seconds, which is all that uv takes; pip takes parts of them too."""
    return str(math.ceil(float(seconds))) if seconds else ""


def _exists(place: str) -> bool:
    """Whether a place may have packages: pip passes over folders that do not exist, and uv would fail."""
    local = place.removeprefix("file://")
    return ("://" in place and local == place) or Path(local).exists()


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).absolute())


def _is_ours(folder: Path) -> bool:
    """Whether a cache may be here, by pip's rule: root leaves alone the cache of the user who called sudo."""
    while not folder.exists():
        folder = folder.parent
    return folder.stat().st_uid == 0 if os.geteuid() == 0 else os.access(folder, os.W_OK)
