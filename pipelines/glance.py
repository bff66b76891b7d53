"""How do we talk to Glance?

The only importer of the OpenStack libraries: openstack.config finds clouds and credentials, glanceclient speaks the v2
API, and keystoneauth1 below it keeps the token valid. A read is tried again, a change never is. Two changes go through
glanceclient's transport instead of its methods, since a method's convenience would do harm there: an upload, which
must not be sent twice, and an update, which must not be computed from what the image was a moment ago.

https://docs.openstack.org/python-glanceclient/latest/
https://docs.openstack.org/api-ref/image/v2/
"""

import hashlib
import json
import os
import re
import urllib.parse
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipelines import console, glance_image
from pipelines.glance_errors import GlanceError, explained, unknown_cloud
from pipelines.glance_image import Image

__all__ = ["CHUNK", "Cloud", "Image", "connect", "names"]

CHUNK = 2**20
PAGE = 1000  # Glance's default limit for a page, too
# Seconds to connect (and to pass on one piece of a body), and to wait for (more of) an answer.
TIMEOUT = (30.0, 120.0)
# An upload is answered once the store has all of it, which takes a busy one a while.
UPLOAD_TIMEOUT = (120.0, 3600.0)
_READ_RETRIES = {"connect_retries": 2, "status_code_retries": 2, "retriable_status_codes": [429, 502, 503, 504]}
_NO_RETRIES = {"connect_retries": 0, "status_code_retries": 0}
_PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cloud:
    """A project in a cloud, authenticated. Every method raises GlanceError, which says what to do."""

    name: str
    project_id: str
    # Two of glanceclient's clients on one session, since it knows retries for all of a client's calls or for none.
    _reads: Any
    _changes: Any

    def images(
        self,
        *,
        owner: str | None = None,
        hidden: bool | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> list[Image]:
        """All images that the project sees, all pages; narrowed by owner, by `hidden`, and by values of properties.

        Hidden ones are listed first: what another process shows in between is in both lists, and is not missed.
        """
        wanted = {**(properties or {}), **({"owner": owner} if owner else {})}
        found: dict[str, Image] = {}
        with explained(self.name, "list images"):
            for choice in (True, False) if hidden is None else (hidden,):
                filters = {**wanted, "os_hidden": str(choice).lower()}
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

    def upload(self, image_id: str, chunks: Callable[[], Iterator[bytes]], size: int) -> None:
        """Send an image's data. `chunks` gives it from its first byte; it is called again after a refused token.

        Returns once Glance has stored it all; whether it is the right data is for the caller to compare. An exception
        from `chunks` ends the upload, and Glance keeps none of it.
        """
        self.image(image_id)  # a token that has expired is noticed and renewed here, before the body is on its way
        for attempt in (1, 2):
            try:
                self._put(image_id, _Body(chunks(), size))
            except GlanceError as error:
                if error.status != 401 or attempt == 2:
                    raise
                self._changes.http_client.invalidate()  # the token
            else:
                return

    def _put(self, image_id: str, body: "_Body") -> None:
        """Send a body once.

        Not by `images.upload`, which leaves it to the layers below to send again, after a refused token or a redirect.
        They keep the body as the generator that glanceclient made of it, by then spent: an image of 0 bytes is stored
        and called a success, and nothing that is given to `images.upload` can notice. Nor can it be given a timeout.
        """
        headers = {"Content-Type": "application/octet-stream", "x-openstack-image-size": str(body.size)}
        once = {"allow_reauth": False, "redirect": False}
        doing = f"upload to image {image_id}"
        with explained(self.name, doing):
            response, _ = self._changes.http_client.put(
                f"/v2/images/{image_id}/file", headers=headers, data=body, timeout=UPLOAD_TIMEOUT, **once
            )
        if response.status_code != 204:  # glanceclient takes a redirect for a success
            what = f"{self.name}: cannot {doing}: HTTP {response.status_code}"
            remedy = "Correct the image service's address in the cloud's catalog, or image_endpoint_override."
            raise GlanceError(what, remedy=remedy, status=response.status_code)

    def download(self, image_id: str, sink: BinaryIO, progress: Callable[[int], None] = lambda _: None) -> Image:
        """Write an image's data to `sink`; GlanceError unless it is what Glance says it is, by size and digest."""
        image = self.image(image_id)
        doing = f"download image {image_id}"
        digest = hashlib.new(image.hash_algorithm or "sha512")
        count = 0
        if image.size is None:
            what = f"{self.name}: cannot {doing}: it has no data ({image.status})"
            raise GlanceError(what, remedy="Choose another; `./inv status` lists them.", status=None)
        with explained(self.name, doing):
            # glanceclient's own check passes what Glance has no checksum for, whatever its size.
            for chunk in self._reads.images.data(image_id, do_checksum=False):
                sink.write(chunk)
                digest.update(chunk)
                count += len(chunk)
                progress(len(chunk))
        if count != image.size or image.hash_value not in (None, digest.hexdigest()):
            what = f"{self.name}: image {image_id} arrived damaged: {count} of {image.size} bytes, or a wrong digest"
            raise GlanceError(what, remedy="Run the same command again.", status=None)
        return image

    def update(self, image_id: str, *, remove: Iterable[str] = (), **values: str | int | bool | Sequence[str]) -> Image:
        """Change an image, all at once or not at all: fields by Glance's names, and properties (added or replaced).

        `remove` names properties to take away, which the image must have.

        Not by `images.update`, which reads the image first and sends the difference: what somebody else changed in
        between would be undone (tags) or our own change left out, and it cannot take away the last tag.
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
        """Delete an image; one that is gone already is fine."""
        try:
            with explained(self.name, f"delete image {image_id}"):
                self._changes.images.delete(image_id)
        except GlanceError as error:
            if error.status != 404:
                raise

    def members(self, image_id: str) -> dict[str, str]:
        """The projects that a shared image is shared with → their answer (pending, accepted, rejected)."""
        with explained(self.name, f"read the members of image {image_id}"):
            return {member["member_id"]: member["status"] for member in self._reads.image_members.list(image_id)}

    def add_member(self, image_id: str, project_id: str) -> None:
        """Share a shared image with a project."""
        with explained(self.name, f"share image {image_id} with project {project_id}"):
            self._changes.image_members.create(image_id, project_id)

    def remove_member(self, image_id: str, project_id: str) -> None:
        """Share an image with a project no more."""
        with explained(self.name, f"share image {image_id} with project {project_id} no more"):
            self._changes.image_members.delete(image_id, project_id)


class _Body:
    """An upload's data, as the file that glanceclient reads: `size` bytes, or an error that ends the upload."""

    def __init__(self, chunks: Iterator[bytes], size: int) -> None:
        self.size = self._left = size
        self._chunks = filter(None, chunks)  # an empty piece is no end

    def read(self, _: int) -> bytes:
        """The next piece, of whatever length; an empty one is the end."""
        piece = next(self._chunks, b"")
        self._left -= len(piece)
        if not piece and self._left:
            what = f"{self.size - self._left} of {self.size} bytes were there to upload"
            raise GlanceError(what, remedy="Look after the image's file, and run the same command again.", status=None)
        return piece


def connect(cloud: str | None = None, *, extra: Path | None = None) -> Cloud:
    """Authenticate to a cloud of clouds.yaml, found as all OpenStack tools find it, or of the file `extra`.

    Without a name, OS_CLOUD and then the other OS_* variables say which one; `envvars` names the latter.
    """
    import glanceclient  # noqa: PLC0415  # slow imports: half a second

    wanted = cloud or os.environ.get("OS_CLOUD")
    with explained(wanted or "envvars", "read its configuration"):
        region = _region(wanted, extra)
        session = region.get_session()
    session.timeout = TIMEOUT
    if urllib.parse.urlsplit(region.config["auth"].get("auth_url", "")).hostname in _LOOPBACK:
        session.session.trust_env = False  # http_proxy is for other hosts
    where = {"region_name": region.get_region_name("image"), "interface": region.get_interface("image") or "public"}
    with explained(region.name, "authenticate"):
        project = session.get_project_id()
    if not project:
        what = f"{region.name}: the credentials are for no project"
        raise GlanceError(what, remedy="Give project_name (OS_PROJECT_NAME) and its domain.", status=None)
    with explained(region.name, "find its image service"):
        endpoint = region.get_endpoint("image")
        endpoint = endpoint or session.get_endpoint(service_type="image", skip_discovery=True, **where)
    # glanceclient adds /v2 itself, and some clouds' catalogs have it, too.
    where["endpoint_override"] = re.sub(r"/v2(\.\d+)?/?$", "", endpoint)
    reads, changes = (
        glanceclient.Client("2", session=session, **where, **policy) for policy in (_READ_RETRIES, _NO_RETRIES)
    )
    return Cloud(name=region.name, project_id=project, _reads=reads, _changes=changes)


def names(extra: Path | None = None) -> tuple[str, ...]:
    """The clouds that `connect` knows: the user's own, and those of `extra`."""
    with explained("clouds.yaml", "read it"):
        return tuple(sorted({name for config in _configs(extra) for name in _names(config)}))


def _region(wanted: str | None, extra: Path | None) -> Any:
    configs = [config for config in _configs(extra) if wanted is None or wanted in _names(config)]
    if not configs or (wanted is None and not _names(configs[0])):
        raise unknown_cloud(wanted, names(extra))
    if len(configs) > 1:
        console.warn(f"two files define the cloud {wanted}: {configs[-1].config_filename} is used")
    with warnings.catch_warnings():
        # openstacksdk warns of its InfluxDB reports for every cloud, also for those that want none.
        warnings.filterwarnings("ignore", message="Support for InfluxDB")
        return configs[-1].get_one(cloud=wanted)


def _configs(extra: Path | None) -> list[Any]:
    """The user's configuration, and that of the extra file, which the user's variables do not touch."""
    from openstack.config import OpenStackConfig  # noqa: PLC0415

    configs = [OpenStackConfig(app_name="gpu-image-pipeline")]
    if extra is not None and extra.exists():
        configs.append(OpenStackConfig(config_files=[str(extra)], secure_files=[], load_envvars=False))
    return configs


def _names(config: Any) -> set[str]:
    # With nothing configured at all, openstack.config makes up a cloud of this name.
    return set(config.get_cloud_names()) - ({"defaults"} if not config.config_filename else set())


def _pointer(name: str) -> str:
    """A JSON pointer (RFC 6901) to a field of an image."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
