"""Which servers use an image?

One question to Nova, on the session that glance.py has authenticated.

https://docs.openstack.org/api-ref/compute/#list-servers-detailed
"""

import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

_REFUSED = (401, 403, 404)
_RETRIES = {"connect_retries": 2, "status_code_retries": 2, "retriable_status_codes": [429, 502, 503, 504]}


def using_image(session: Any, url: str, image_id: str) -> tuple[str, ...] | None:
    """The IDs of the servers that were made from an image: all projects' or, where that is refused, our own's.

    None where Nova refuses that, too. Raises what `session` raises for any other answer.
    """
    for everybody in (True, False):
        answers = list(_pages(session, url, image_id, everybody))
        if None not in answers:
            return tuple(server["id"] for page in answers if page for server in page)
    return None


def _pages(session: Any, url: str, image_id: str, everybody: bool) -> Iterator[list[dict[str, Any]] | None]:
    """The list's pages; None for one that is refused."""
    asked = {"image": image_id, **({"all_tenants": "true"} if everybody else {})}
    while True:
        where = f"{_versioned(url)}/servers/detail?{urllib.parse.urlencode(asked)}"
        response = session.get(where, headers={"Accept": "application/json"}, raise_exc=False, **_RETRIES)
        if response.status_code in _REFUSED:
            yield None
            return
        if response.status_code >= 400:
            response.raise_for_status()
        page = response.json()
        yield page["servers"]
        if not page.get("servers_links") or not page["servers"]:
            return
        asked["marker"] = page["servers"][-1]["id"]


def _versioned(url: str) -> str:
    """Nova's address with a version: some catalogs leave it out."""
    url = url.rstrip("/")
    return url if re.search(r"/v2(\.\d+)?(/|$)", url) else f"{url}/v2.1"
