"""Servers of a cloud.

https://docs.openstack.org/api-ref/compute/#list-servers-detailed
"""

import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

from pipelines.keystone.errors import explained
from pipelines.keystone.session import READ_RETRIES, Session

_REFUSED = (401, 403, 404)


def using_image(session: Session, image_id: str) -> tuple[str, ...] | None:
    """The IDs of the servers that were made from an image; None where there is no Nova, or none that answers us.

    Of all projects where this user may ask for that, otherwise of the own project alone. A server that boots from a
    volume is not among them: the volume needs the image no more.
    """
    url = session.endpoint("compute")
    if url is None:
        return None
    with explained(session.cloud, f"ask Nova which servers use image {image_id}"):
        for all_projects in (True, False):
            answers = list(_pages(session, url, image_id, all_projects))
            if None not in answers:
                return tuple(server["id"] for page in answers if page for server in page)
    return None


def _pages(session: Session, url: str, image_id: str, all_projects: bool) -> Iterator[list[dict[str, Any]] | None]:
    """The list's pages; None for one that is refused."""
    asked = {"image": image_id, **({"all_tenants": "true"} if all_projects else {})}
    while True:
        where = f"{_versioned(url)}/servers/detail?{urllib.parse.urlencode(asked)}"
        response = session.http.get(where, headers={"Accept": "application/json"}, raise_exc=False, **READ_RETRIES)
        if response.status_code in _REFUSED:
            yield None
            return
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
