"""What does a cloud offer beside a plain upload, and how does an import go?

https://docs.openstack.org/api-ref/image/v2/#interoperable-image-import
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.glance.client import Cloud, Image
from pipelines.keystone.errors import ServiceError

# Seconds until an import is given up, and between two looks at it: at first, and at most.
DEADLINE = 7200.0
FIRST_LOOK, RARELY = 0.1, 5.0
_ABSENT = (403, 404)


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """The methods of import, and the stores that can be written, by their IDs; none where there is no choice."""

    methods: tuple[str, ...]
    stores: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How far an import is, and what Glance says to that."""

    state: Literal["under way", "done", "failed"]
    said: str = ""


def offer(cloud: Cloud) -> Offer:
    """Ask the cloud. A Glance that is too old to be asked, or has one store, offers nothing."""
    imports = _answer(cloud, "/v2/info/import", "ask how images can be imported") or {}
    stores = _answer(cloud, "/v2/info/stores", "ask which stores there are") or {}
    return Offer(
        methods=tuple(imports.get("import-methods", {}).get("value", ())),
        stores=tuple(each["id"] for each in stores.get("stores", ()) if each.get("read-only") != "true"),
    )


def wait(cloud: Cloud, image_id: str, *, deadline: float = DEADLINE) -> None:
    """Return when an import is done, all stores included. ServiceError when it failed, or after `deadline` seconds."""
    ends, pause, begun = time.monotonic() + deadline, FIRST_LOOK, False
    while True:
        image = cloud.image(image_id)
        begun = begun or image.status == "importing"
        found = standing(image, _tasks(cloud, image_id), begun=begun)
        if found.state == "done":
            return
        if found.state == "failed":
            what = f"{cloud.name}: the import of image {image_id} failed: {found.said or 'Glance does not say why'}"
            raise ServiceError(what, remedy="Run the same command again; Glance's log says more.", status=None)
        if time.monotonic() >= ends:
            what = f"{cloud.name}: the import of image {image_id} is not done after {deadline:g} s ({image.status})"
            raise ServiceError(what, remedy="Ask the cloud's administrators; its log says what it is at.", status=None)
        time.sleep(pause)
        pause = min(1.5 * pause, RARELY)


def standing(image: Image, tasks: Sequence[Mapping[str, Any]] | None, *, begun: bool) -> Standing:
    """How far an import is. `tasks` are the image's, None where Glance is too old to list them (before Wallaby).

    `active` alone does not say that it is done, since more stores may follow, nor does `importing` that it is under
    way, since that is how Glance leaves an image whose import failed. `begun`: it was seen to be importing.
    """
    failed = image.properties.get("os_glance_failed_import")
    task = max(tasks, key=lambda each: str(each["created_at"])) if tasks else None
    if task is not None and task["status"] in ("success", "failure"):
        return Standing(state="done" if task["status"] == "success" else "failed", said=_message(task, failed))
    if failed:
        return Standing(state="failed", said=_message(task or {}, failed))
    if tasks is None and image.status == "active" and not image.properties.get("os_glance_importing_to_stores"):
        return Standing(state="done")
    if tasks is None and image.status == "queued" and begun:
        return Standing(state="failed")
    return Standing(state="under way")


def _message(task: Mapping[str, Any], failed: str | None) -> str:
    stores = f"not stored in {failed.replace(',', ', ')}" if failed else ""
    return "; ".join(filter(None, (" ".join(str(task.get("message") or "").split())[:300], stores)))


def _tasks(cloud: Cloud, image_id: str) -> Sequence[Mapping[str, Any]] | None:
    found = _answer(cloud, f"/v2/images/{image_id}/tasks", f"ask how the import of image {image_id} goes")
    return None if found is None else found.get("tasks", ())


def _answer(cloud: Cloud, path: str, doing: str) -> Any:
    """What Glance answers; None where it has nothing there for us."""
    try:
        return cloud.answer(path, doing)
    except ServiceError as error:
        if error.status in _ABSENT:
            return None
        raise
