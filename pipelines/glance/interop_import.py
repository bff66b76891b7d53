"""Glance's interoperable image import: what a cloud offers, and the progress of an import.

https://docs.openstack.org/api-ref/image/v2/#interoperable-image-import
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.glance.client import Cloud, Image
from pipelines.keystone.errors import ServiceError

# Seconds until an import is given up, and between two polls: at first, and at most.
DEADLINE = 7200.0
FIRST_POLL, LONGEST_POLL = 0.1, 5.0
_ABSENT = (403, 404)


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """Import methods and writable stores, by their IDs; none of either where the cloud offers no choice."""

    methods: tuple[str, ...]
    stores: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """State of an import, and Glance's message about it."""

    state: Literal["running", "done", "failed"]
    message: str = ""


def offer(cloud: Cloud) -> Offer:
    """What the cloud offers. A Glance that is too old to be asked, or has one store, offers nothing."""
    imports = _answer(cloud, "/v2/info/import", "ask how images can be imported") or {}
    stores = _answer(cloud, "/v2/info/stores", "ask which stores there are") or {}
    return Offer(
        methods=tuple(imports.get("import-methods", {}).get("value", ())),
        stores=tuple(each["id"] for each in stores.get("stores", ()) if each.get("read-only") != "true"),
    )


def wait(cloud: Cloud, image_id: str, *, deadline: float = DEADLINE) -> None:
    """Return when an import is done, all stores included. ServiceError when it failed, or after `deadline` seconds."""
    ends, pause, started = time.monotonic() + deadline, FIRST_POLL, False
    while True:
        image = cloud.image(image_id)
        started = started or image.status == "importing"
        found = progress(image, _tasks(cloud, image_id), started=started)
        if found.state == "done":
            return
        if found.state == "failed":
            what = f"{cloud.name}: the import of image {image_id} failed: {found.message or 'Glance gives no reason'}"
            raise ServiceError(what, remedy="Run the same command again; Glance's log has more.", status=None)
        if time.monotonic() >= ends:
            what = (
                f"{cloud.name}: the import of image {image_id} has not finished after {deadline:g} s ({image.status})"
            )
            raise ServiceError(
                what, remedy="Ask the cloud's administrators; Glance's log has the progress.", status=None
            )
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_POLL)


def progress(image: Image, tasks: Sequence[Mapping[str, Any]] | None, *, started: bool) -> Progress:
    """State of an import. `tasks` are the image's, None where Glance is too old to list them (before Wallaby).

    `active` alone does not mean that it is done, since more stores may follow, nor does `importing` mean that it is
    running: Glance leaves an image like that whose import failed. `started`: it was importing once.
    """
    failed = image.properties.get("os_glance_failed_import")
    task = max(tasks, key=lambda each: str(each["created_at"])) if tasks else None
    if task is not None and task["status"] in ("success", "failure"):
        return Progress(state="done" if task["status"] == "success" else "failed", message=_message(task, failed))
    if failed:
        return Progress(state="failed", message=_message(task or {}, failed))
    if tasks is None and image.status == "active" and not image.properties.get("os_glance_importing_to_stores"):
        return Progress(state="done")
    if tasks is None and image.status == "queued" and started:
        return Progress(state="failed")
    return Progress(state="running")


def _message(task: Mapping[str, Any], failed: str | None) -> str:
    stores = f"not stored in {failed.replace(',', ', ')}" if failed else ""
    return "; ".join(filter(None, (" ".join(str(task.get("message") or "").split())[:300], stores)))


def _tasks(cloud: Cloud, image_id: str) -> Sequence[Mapping[str, Any]] | None:
    found = _answer(cloud, f"/v2/images/{image_id}/tasks", f"ask for the progress of the import of image {image_id}")
    return None if found is None else found.get("tasks", ())


def _answer(cloud: Cloud, path: str, doing: str) -> Any:
    """Glance's answer; None where it does not offer this to us."""
    try:
        return cloud.answer(path, doing)
    except ServiceError as error:
        if error.status in _ABSENT:
            return None
        raise
