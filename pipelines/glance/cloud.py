"""Images of a project in a cloud: list, create, fill, change, share, delete.

Two changes go through glanceclient's transport instead of its methods, whose convenience would do harm there: an
upload, which must not be sent twice, and an update, which must not be computed from an earlier state of the image.

https://docs.openstack.org/api-ref/image/v2/
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipelines.glance import image as glance_image
from pipelines.glance.errors import explained
from pipelines.glance.image import Image
from pipelines.keystone.errors import ServiceError
from pipelines.keystone.session import Session

PAGE = 1000  # Glance's default limit for a page, too
_PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}


CHUNK = 2**20
# Seconds to connect (and to pass on one piece), and for the answer: it comes once the store has all data, and a busy
# store is slow.
TIMEOUT = (120.0, 3600.0)
Chunks = Callable[[], Iterator[bytes]]


class Body:
    """An upload's data, as the file that glanceclient reads: `size` bytes, or an error that ends the upload."""

    def __init__(self, chunks: Iterator[bytes], size: int) -> None:
        self.size = self._missing = size
        self._chunks = filter(None, chunks)  # an empty piece is not the end

    def read(self, _: int) -> bytes:
        """The next piece, of whatever length; an empty one is the end."""
        piece = next(self._chunks, b"")
        self._missing -= len(piece)
        if not piece and self._missing:
            what = f"only {self.size - self._missing} of {self.size} bytes could be read for the upload"
            raise ServiceError(what, remedy="Check the image's file, and run the same command again.", status=None)
        return piece


@dataclass(frozen=True, kw_only=True, slots=True)
class Cloud:
    """A project in a cloud, authenticated. Every method raises ServiceError, with a remedy."""

    session: Session
    # Two of glanceclient's clients on one session, since it knows retries for all of a client's calls or for none.
    _reads: Any
    _changes: Any

    @property
    def name(self) -> str:
        """The cloud's name in clouds.yaml."""
        return self.session.cloud

    @property
    def project_id(self) -> str:
        """The project whose images these are."""
        return self.session.project_id

    def images(
        self,
        *,
        owner: str | None = None,
        hidden: bool | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> list[Image]:
        """All images that the project sees, all pages; narrowed by owner, by `hidden`, and by values of properties.

        Hidden ones are listed first: an image that another process makes visible in between is in both lists.
        """
        wanted = {**(properties or {}), **({"owner": owner} if owner else {})}
        found: dict[str, Image] = {}
        with explained(self.name, "list images"):
            for listed in (True, False) if hidden is None else (hidden,):
                filters = {**wanted, "os_hidden": str(listed).lower()}
                found |= {
                    raw["id"]: glance_image.read(raw)
                    for raw in self._reads.images.list(filters=filters, page_size=PAGE)
                }
        return list(found.values())

    def image(self, image_id: str) -> Image:
        """One image by its ID."""
        with explained(self.name, f"read image {image_id}"):
            return glance_image.read(self._reads.images.get(image_id))

    def create(
        self,
        image_id: str,
        *,
        name: str,
        disk_format: str,
        min_disk: int,
        min_ram: int,
        tags: Iterable[str],
        properties: Mapping[str, str],
    ) -> Image:
        """A record without data, hidden and private. `min_disk` is in GiB, `min_ram` in MiB."""
        record: dict[str, Any] = {
            **properties,
            "id": image_id,
            "name": name,
            "disk_format": disk_format,
            "container_format": "bare",
            "min_disk": min_disk,
            "min_ram": min_ram,
            "tags": sorted(tags),
            "visibility": "private",
            "os_hidden": True,
        }
        with explained(self.name, f"create image {name}"):
            return glance_image.read(self._changes.images.create(**record))

    def put_data(self, image_id: str, chunks: Chunks, size: int, *, store: str = "") -> None:
        """Upload an image's data, to the named store or to the cloud's default.

        `chunks` gives the data from its first byte; it is called again after a refused token. Returns once Glance has
        stored it all; the caller compares whether it arrived unchanged. An exception from `chunks` ends the upload, and
        Glance stores none of it.
        """
        headers = {"X-Image-Meta-Store": store} if store else {}
        self._send(image_id, "file", lambda: Body(chunks(), size), f"upload to image {image_id}", **headers)

    def stage_data(self, image_id: str, chunks: Chunks, size: int) -> None:
        """Upload an image's data to the area that Glance imports it from; otherwise as `put_data`."""
        doing = f"upload to the staging area of image {image_id}"
        self._send(image_id, "stage", lambda: Body(chunks(), size), doing)

    def begin_import(self, image_id: str, method: Mapping[str, str], stores: Sequence[str]) -> None:
        """Start Glance's import of an image's data, into these stores (none: its default). It runs after the answer."""
        wanted: dict[str, Any] = {"method": dict(method)}
        if stores:
            wanted |= {"stores": list(stores), "all_stores_must_succeed": True}
        with explained(self.name, f"import image {image_id}"):
            self._changes.http_client.post(f"/v2/images/{image_id}/import", data=wanted)

    def _send(self, image_id: str, where: str, body: Callable[[], Body], doing: str, **headers: str) -> None:
        self.image(image_id)  # an expired token is noticed and renewed here, before the body is sent
        for attempt in (1, 2):
            try:
                client, path = self._changes.http_client, f"/v2/images/{image_id}/{where}"
                _send_once(client, path, body(), headers, cloud=self.name, doing=doing)
            except ServiceError as error:
                if error.status != 401 or attempt == 2:
                    raise
                self._changes.http_client.invalidate()  # the token
            else:
                return

    def download(self, image_id: str, sink: BinaryIO, progress: Callable[[int], None] = lambda _: None) -> Image:
        """Write an image's data to `sink`; ServiceError unless its size and digest are those that Glance has."""
        image = self.image(image_id)
        doing = f"download image {image_id}"
        digest = hashlib.new(image.hash_algorithm or "sha512")
        count = 0
        if image.size is None:
            what = f"{self.name}: cannot {doing}: it has no data ({image.status})"
            raise ServiceError(what, remedy="Choose another image; `./inv status` lists them.", status=None)
        with explained(self.name, doing):
            # glanceclient's own check passes data without a checksum in Glance, whatever its size.
            for chunk in self._reads.images.data(image_id, do_checksum=False):
                sink.write(chunk)
                digest.update(chunk)
                count += len(chunk)
                progress(len(chunk))
        if count != image.size or image.hash_value not in (None, digest.hexdigest()):
            what = f"{self.name}: image {image_id} arrived damaged: {count} of {image.size} bytes, or a wrong digest"
            raise ServiceError(what, remedy="Run the same command again.", status=None)
        return image

    def update(self, image_id: str, *, remove: Iterable[str] = (), **values: str | int | bool | Sequence[str]) -> Image:
        """Change an image, all at once or not at all: fields by Glance's names, and properties (added or replaced).

        `remove` names properties to remove, which the image must have.

        Not by `images.update`, which reads the image first and sends the difference: it would undo what another user
        changed in between (tags) or leave out our own change, and it cannot remove the last tag.
        """
        changes: list[dict[str, Any]] = [
            {"op": "add", "path": _pointer(name), "value": list(value) if isinstance(value, tuple) else value}
            for name, value in values.items()
        ]
        changes += [{"op": "remove", "path": _pointer(name)} for name in remove]
        doing = f"change image {image_id} ({', '.join(change['path'][1:] for change in changes)})"
        with explained(self.name, doing):
            path = f"/v2/images/{image_id}"
            _, raw = self._changes.http_client.patch(path, headers=dict(_PATCH), data=json.dumps(changes))
            return glance_image.read(raw)

    def delete(self, image_id: str) -> None:
        """Delete an image; one that does not exist any more is fine."""
        try:
            with explained(self.name, f"delete image {image_id}"):
                self._changes.images.delete(image_id)
        except ServiceError as error:
            if error.status != 404:
                raise

    def answer(self, path: str, doing: str) -> Any:
        """The JSON answer of Glance to a GET of a path, such as /v2/metadefs/namespaces."""
        with explained(self.name, doing):
            return self._reads.http_client.get(path)[1]

    def members(self, image_id: str) -> dict[str, str]:
        """The projects that a shared image is shared with → their answer (pending, accepted, rejected)."""
        with explained(self.name, f"read the members of image {image_id}"):
            return {member["member_id"]: member["status"] for member in self._reads.image_members.list(image_id)}

    def set_members(self, image_id: str, wanted: Collection[str]) -> dict[str, str]:
        """Share a shared image with these projects and no others; the members before, as `members` has them."""
        before = self.members(image_id)
        for project in sorted(set(wanted) - set(before)):
            self.add_member(image_id, project)
        for project in sorted(set(before) - set(wanted)):
            self.remove_member(image_id, project)
        return before

    def add_member(self, image_id: str, project_id: str) -> None:
        """Share a shared image with a project; one that is a member already is fine."""
        try:
            with explained(self.name, f"share image {image_id} with project {project_id}"):
                self._changes.image_members.create(image_id, project_id)
        except ServiceError as error:
            if error.status != 409:
                raise

    def remove_member(self, image_id: str, project_id: str) -> None:
        """Stop sharing an image with a project; one that is not a member is fine."""
        try:
            with explained(self.name, f"stop sharing image {image_id} with project {project_id}"):
                self._changes.image_members.delete(image_id, project_id)
        except ServiceError as error:
            if error.status != 404:
                raise


def _pointer(name: str) -> str:
    """A JSON pointer (RFC 6901) to a field of an image."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _send_once(client: Any, path: str, body: Body, headers: Mapping[str, str], *, cloud: str, doing: str) -> None:
    """Send a body once.

    Not by `images.upload`, which lets the layers below send again, after a refused token or a redirect. They have the
    body as the generator that glanceclient made of it, by then spent: an image of 0 bytes is stored and reported as a
    success, and no argument of `images.upload` can prevent that. Nor does it take a timeout.
    """
    about = {"Content-Type": "application/octet-stream", "x-openstack-image-size": str(body.size), **headers}
    once = {"allow_reauth": False, "redirect": False}
    with explained(cloud, doing):
        response, _ = client.put(path, headers=about, data=body, timeout=TIMEOUT, **once)
    if response.status_code != 204:  # glanceclient takes a redirect for a success
        what = f"{cloud}: cannot {doing}: HTTP {response.status_code}"
        remedy = "Correct the image service's address in the cloud's catalog, or image_endpoint_override."
        raise ServiceError(what, remedy=remedy, status=response.status_code)
