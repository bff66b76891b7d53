"""pip's configuration in uv's terms, since uv does not read it. Standard library only, as the bootstrap is."""

import ast
import os
from collections.abc import Mapping
from pathlib import Path


def settings(listed: str) -> dict[str, str]:
    """What `pip config list` prints, as `pip install` takes it: variables, else [install], else [global]."""
    found = {}
    for section in ("global", "install", ":env:"):
        for line in listed.splitlines():
            where, _, rest = line.partition(".")
            name, equals, value = rest.partition("=")
            if where == section and equals:
                found[name] = str(ast.literal_eval(value))
    return found


def uv_environment(configured: Mapping[str, str], cache: str) -> dict[str, str]:
    """uv's variables that mean what pip's settings do. `cache` is pip's folder, empty when it has none.

    In variables, since an index's URL may have a password, and arguments can be read by every user. A variable of uv's
    that is set already wins.
    """
    wanted = {
        "UV_DEFAULT_INDEX": configured.get("index-url", ""),
        "UV_EXTRA_INDEX_URL": " ".join(filter(_exists, configured.get("extra-index-url", "").split())),
        "UV_FIND_LINKS": ",".join(map(_absolute, filter(_exists, configured.get("find-links", "").split()))),
        "UV_NO_INDEX": "1" if configured.get("no-index", "").lower() in {"1", "true", "yes", "on"} else "",
        "UV_INSECURE_HOST": configured.get("trusted-host", ""),
        # Like pip, the best of all indexes; the digests say which files are right.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_KEYRING_PROVIDER": "subprocess" if configured.get("keyring-provider") == "subprocess" else "",
        "UV_HTTP_TIMEOUT": configured.get("timeout", configured.get("default-timeout", "")),
        "UV_HTTP_RETRIES": configured.get("retries", ""),
        "SSL_CERT_FILE": configured.get("cert", ""),
        "SSL_CLIENT_CERT": configured.get("client-cert", ""),
        "HTTP_PROXY": configured.get("proxy", ""),
        "HTTPS_PROXY": configured.get("proxy", ""),
        # In pip's own folder, which CI systems keep from one run to the next.
        "UV_CACHE_DIR": str(Path(cache) / "uv") if cache and _is_ours(Path(cache)) else "",
    }
    if not wanted["UV_CACHE_DIR"]:
        wanted["UV_NO_CACHE"] = "1"
    return {name: value for name, value in wanted.items() if value and not os.environ.get(name)}


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
