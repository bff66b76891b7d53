"""Transfer of an image's data to a cloud, and the comparison afterwards.

By a plain upload, by Glance's import of what was sent to its staging area (glance-direct), or by Glance's own download
(web-download); to its default store, or to named ones. The cloud is asked what it offers. Afterwards the image is
compared with what was sent, by Glance's own digest, after an import too.
"""

import urllib.parse
from dataclasses import dataclass
from typing import Literal

from pipelines.artifacts.manifest import Manifest
from pipelines.artifacts.store import Build
from pipelines.catalog.clouds import Delivery
from pipelines.glance import interop_import
from pipelines.glance.client import Cloud, Image
from pipelines.keystone.errors import ServiceError
from pipelines.release import image_metadata, payload
from pipelines.release.payload import Payload
from pipelines.util import console
from pipelines.util.errors import CloudError

Method = Literal["put", "glance-direct", "web-download"]

# The digest of an image's data where they are not the build's own file, set after they were compared.
DATA = image_metadata.DATA
_OTHERWISE = "Write one that it offers in images.yaml (`clouds`), or leave the key out."


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Import method and stores of an upload. `url` is where the cloud finds the builds' folder (web-download)."""

    method: Method
    stores: tuple[str, ...] = ()
    url: str = ""


def choose(cloud: Cloud, delivery: Delivery) -> Route:
    """The route for a delivery; CloudError where the cloud does not offer what was asked for. Sends nothing yet.

    auto is a web-download where images.yaml has an address for it and the cloud offers it, an import from the staging
    area for several stores, and a plain upload otherwise: every cloud has it, its answer comes when the store has all
    data, and it needs no space in a staging area.
    """
    if delivery == Delivery(disk_format=delivery.disk_format):
        return Route(method="put")
    found = interop_import.offer(cloud)
    stores = _stores(cloud, delivery, found.stores)
    if delivery.import_method != "auto":
        method: Method = delivery.import_method
    elif delivery.web_download_url and "web-download" in found.methods:
        method = "web-download"
    else:
        method = "glance-direct" if len(stores) > 1 else "put"
    _require_offered(cloud, method, stores, found.methods)
    return Route(method=method, stores=stores, url=delivery.web_download_url if method == "web-download" else "")


def fill(cloud: Cloud, image_id: str, name: str, sent: Payload, route: Route) -> Image:
    """Fill an image that was created for this payload, and compare it; the image as it is then.

    Raises CloudError when the data do not arrive, or arrive changed. The image is useless then.
    """
    if route.method == "web-download":
        _download(cloud, image_id, sent, route)
    else:
        _upload(cloud, image_id, name, sent, route)
    image = cloud.image(image_id)
    _require_stores(cloud, image, name, route)
    _require_same(cloud, image, name, sent)
    if image.disk_format == sent.original.format:
        return image
    return cloud.update(image_id, **{DATA: f"{image.hash_algorithm}:{image.hash_value}"})


def holds(image: Image, build: Build, made: Manifest, delivery: Delivery) -> bool:
    """Whether an image has all of this build's data, in a form that the cloud wants."""
    if image.status != "active" or image.properties.get(image_metadata.BUILD_ID) != made.build_id:
        return False
    if image.disk_format == made.artifact.format:
        whole = payload.canonical(build, made)
        same = image.size == made.artifact.size and image.hash_value == whole.digest(image.hash_algorithm)
        return same and delivery.disk_format == made.artifact.format
    converted = image.properties.get(image_metadata.SHA256) == made.artifact.sha256
    return converted and image.properties.get(DATA) == f"{image.hash_algorithm}:{image.hash_value}"


def _stores(cloud: Cloud, delivery: Delivery, there: tuple[str, ...]) -> tuple[str, ...]:
    if delivery.stores is None:
        return there
    unknown = [store for store in delivery.stores if store not in there]
    if unknown:
        offered = ", ".join(there) or "no choice of stores"
        what = f"{cloud.name} has no store {', '.join(unknown)} that can be written; it offers {offered}"
        raise CloudError(what, remedy=_OTHERWISE)
    return delivery.stores


def _require_offered(cloud: Cloud, method: Method, stores: tuple[str, ...], methods: tuple[str, ...]) -> None:
    if method == "put" and len(stores) > 1:
        what = f"{cloud.name}: a plain upload goes to one store, not to {', '.join(stores)}"
        raise CloudError(what, remedy="Write `import_method: auto`, or one store.")
    if method != "put" and method not in methods:
        wanted = f"{method}, which several stores need" if len(stores) > 1 else method
        what = f"{cloud.name} does not offer {wanted}; it offers {', '.join(('put', *methods))}"
        raise CloudError(what, remedy=_OTHERWISE)


def _upload(cloud: Cloud, image_id: str, name: str, sent: Payload, route: Route) -> None:
    with console.meter(f"{name} → {cloud.name}", sent.artifact.size) as meter:
        if route.method == "put":
            store = route.stores[0] if route.stores else ""
            cloud.put_data(image_id, lambda: sent.chunks(meter.advance), sent.artifact.size, store=store)
            return
        cloud.stage_data(image_id, lambda: sent.chunks(meter.advance), sent.artifact.size)
    cloud.begin_import(image_id, {"name": "glance-direct"}, route.stores)
    interop_import.wait(cloud, image_id)


def _download(cloud: Cloud, image_id: str, sent: Payload, route: Route) -> None:
    url = f"{route.url.rstrip('/')}/{urllib.parse.quote(sent.place)}"
    console.note(f"{cloud.name} downloads {url}")
    cloud.begin_import(image_id, {"name": "web-download", "uri": url}, route.stores)
    try:
        interop_import.wait(cloud, image_id)
    except ServiceError as error:
        remedy = f"Check that this cloud's Glance can reach {url}, and that a web server has the builds' folder there."
        raise ServiceError(error.what, remedy=remedy, status=error.status) from error


def _require_stores(cloud: Cloud, image: Image, name: str, route: Route) -> None:
    missing = set(route.stores) - set(image.stores) if image.stores else set()
    if missing:
        what = f"{cloud.name}: {name} was not stored in {', '.join(sorted(missing))}"
        raise CloudError(what, remedy="Run the same command again.")


def _require_same(cloud: Cloud, image: Image, name: str, sent: Payload) -> None:
    """Compare, by size and digest. A cloud whose imports convert to raw has the raw copy's, which is made for that."""
    if image.disk_format == sent.artifact.format:
        _compare(cloud, image, name, sent)
    elif image.disk_format == "raw":
        console.note(f"{cloud.name} converted {name} to raw; write `disk_format: raw` to upload it as raw")
        with payload.raw(sent) as copy:
            _compare(cloud, image, name, copy)
    else:
        what = f"{cloud.name} converted {name} from {sent.artifact.format} to {image.disk_format}"
        remedy = f"Its data cannot be compared then: write `import_method: put` for {cloud.name} in images.yaml."
        raise CloudError(f"{what}, so it cannot be compared with what was built", remedy=remedy)


def _compare(cloud: Cloud, image: Image, name: str, wanted: Payload) -> None:
    size = wanted.artifact.size
    if image.status != "active" or image.size != size or image.hash_value != wanted.digest(image.hash_algorithm):
        what = f"{cloud.name}: what arrived as {name} is not what was sent ({image.size} of {size} bytes)"
        raise CloudError(what, remedy="Run the same command again.")
