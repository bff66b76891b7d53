"""How do we talk to Glance?

The only importer of the OpenStack libraries: openstack.config finds clouds and credentials, keystoneauth1 keeps the
token valid, and Glance's v2 API is spoken directly. Both published clients may send an upload twice: the body is spent
by then, so the second attempt stores an image of 0 bytes and calls it a success. Here a read is tried again, a change
never is, and an upload starts over only from its first byte.

https://docs.openstack.org/api-ref/image/v2/
"""

import hashlib
import os
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipelines import console
from pipelines.glance_errors import GlanceError, explained, unknown_cloud

CHUNK = 2**20
PAGE = 1000  # Glance's default limit for a page, too
# Seconds to connect (and to pass on one piece of a body), and to wait for (more of) an answer.
TIMEOUT = (30.0, 120.0)
# An upload is answered once the store has all of it, which takes a busy one a while.
UPLOAD_TIMEOUT = (120.0, 3600.0)
_READ_RETRIES = {"connect_retries": 2, "status_code_retries": 2, "retriable_status_codes": [429, 502, 503, 504]}
_PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}

# What an image has besides its properties; an image's other keys are properties.
_OWN_KEYS = frozenset(
    (
        *("checksum", "container_format", "created_at", "direct_url", "disk_format", "file", "id", "locations"),
        *("min_disk", "min_ram", "name", "os_hash_algo", "os_hash_value", "os_hidden", "owner", "protected", "schema"),
        *("self", "size", "status", "stores", "tags", "updated_at", "virtual_size", "visibility"),
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image, as Glance has it. `size` is in bytes, None before there is data, and so are `hash_*`."""

    id: str
    name: str
    status: str
    visibility: str
    hidden: bool
    protected: bool
    owner: str
    disk_format: str
    size: int | None
    hash_algorithm: str | None
    hash_value: str | None
    min_disk: int
    min_ram: int
    created_at: str
    tags: tuple[str, ...]
    properties: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cloud:
    """A project in a cloud, authenticated. Every method raises GlanceError, which says what to do."""

    name: str
    project_id: str
    _adapter: Any

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
        wanted = {**(properties or {}), **({"owner": owner} if owner else {}), "limit": str(PAGE)}
        found: dict[str, Image] = {}
        for choice in (True, False) if hidden is None else (hidden,):
            query = urllib.parse.urlencode({**wanted, "os_hidden": str(choice).lower()})
            while query:
                page = self._call("list images", "GET", f"/images?{query}").json()
                found |= {raw["id"]: _image(raw) for raw in page["images"]}
                query = urllib.parse.urlsplit(page.get("next", "")).query
        return list(found.values())

    def image(self, image_id: str) -> Image:
        """One image by its ID."""
        return _image(self._call(f"read image {image_id}", "GET", f"/images/{image_id}").json())

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
        return _image(self._call(f"create image {name}", "POST", "/images", json=record).json())

    def upload(self, image_id: str, chunks: Callable[[], Iterator[bytes]], size: int) -> None:
        """Send an image's data. `chunks` gives it from its first byte; it is called again after a refused token.

        Returns once Glance has stored it all; whether it is the right data is for the caller to compare. An exception
        from `chunks` ends the upload, and Glance keeps none of it.
        """
        self.image(image_id)  # a token that has expired is noticed and renewed here, before the body is on its way
        headers = {"Content-Type": "application/octet-stream", "x-openstack-image-size": str(size)}
        for attempt in (1, 2):
            try:
                self._call(
                    f"upload to image {image_id}",
                    "PUT",
                    f"/images/{image_id}/file",
                    data=chunks(),
                    headers=headers,
                    timeout=UPLOAD_TIMEOUT,
                    allow_reauth=False,
                    redirect=False,
                )
            except GlanceError as error:
                if error.status != 401 or attempt == 2:
                    raise
                self._adapter.session.invalidate()
            else:
                return

    def download(self, image_id: str, sink: BinaryIO, progress: Callable[[int], None] = lambda _: None) -> Image:
        """Write an image's data to `sink`; GlanceError unless it is what Glance says it is, by size and digest."""
        image = self.image(image_id)
        doing = f"download image {image_id}"
        digest = hashlib.new(image.hash_algorithm or "sha512")
        count = 0
        response = self._call(doing, "GET", f"/images/{image_id}/file", stream=True)
        with explained(self.name, doing):
            for chunk in response.iter_content(CHUNK):
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
        """
        changes: list[dict[str, Any]] = [
            {"op": "add", "path": _pointer(name), "value": list(value) if isinstance(value, tuple) else value}
            for name, value in values.items()
        ]
        changes += [{"op": "remove", "path": _pointer(name)} for name in remove]
        doing = f"change image {image_id} ({', '.join(change['path'][1:] for change in changes)})"
        return _image(self._call(doing, "PATCH", f"/images/{image_id}", json=changes, headers=_PATCH).json())

    def delete(self, image_id: str) -> None:
        """Delete an image; one that is gone already is fine."""
        try:
            self._call(f"delete image {image_id}", "DELETE", f"/images/{image_id}")
        except GlanceError as error:
            if error.status != 404:
                raise

    def members(self, image_id: str) -> dict[str, str]:
        """The projects that a shared image is shared with → their answer (pending, accepted, rejected)."""
        path = f"/images/{image_id}/members"
        raw = self._call(f"read the members of image {image_id}", "GET", path).json()["members"]
        return {member["member_id"]: member["status"] for member in raw}

    def add_member(self, image_id: str, project_id: str) -> None:
        """Share a shared image with a project."""
        doing = f"share image {image_id} with project {project_id}"
        self._call(doing, "POST", f"/images/{image_id}/members", json={"member": project_id})

    def remove_member(self, image_id: str, project_id: str) -> None:
        """Share an image with a project no more."""
        doing = f"share image {image_id} with project {project_id} no more"
        self._call(doing, "DELETE", f"/images/{image_id}/members/{project_id}")

    def _call(self, doing: str, method: str, path: str, **options: Any) -> Any:
        retries = _READ_RETRIES if method == "GET" else {"connect_retries": 0, "status_code_retries": 0}
        with explained(self.name, doing):
            return self._adapter.request(path, method, **{"timeout": TIMEOUT, **retries, **options})


def connect(cloud: str | None = None, *, extra: Path | None = None) -> Cloud:
    """Authenticate to a cloud of clouds.yaml, found as all OpenStack tools find it, or of the file `extra`.

    Without a name, OS_CLOUD and then the other OS_* variables say which one; `envvars` names the latter.
    """
    from keystoneauth1.adapter import Adapter  # noqa: PLC0415  # slow imports: half a second

    wanted = cloud or os.environ.get("OS_CLOUD")
    with explained(wanted or "envvars", "read its configuration"):
        region = _region(wanted, extra)
        session = region.get_session()
        if urllib.parse.urlsplit(region.config["auth"].get("auth_url", "")).hostname in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            session.session.trust_env = False  # http_proxy is for other hosts
    override = region.get_endpoint("image")
    adapter = Adapter(
        session=session,
        service_type="image",
        region_name=region.get_region_name("image"),
        interface=region.get_interface("image"),
        endpoint_override=f"{override.rstrip('/').removesuffix('/v2')}/v2" if override else None,
        min_version="2",
        max_version="2.latest",
    )
    with explained(region.name, "authenticate"):
        project = session.get_project_id()
    if not project:
        what = f"{region.name}: the credentials are for no project"
        raise GlanceError(what, remedy="Give project_name (OS_PROJECT_NAME) and its domain.", status=None)
    return Cloud(name=region.name, project_id=project, _adapter=adapter)


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


def _image(raw: Mapping[str, Any]) -> Image:
    return Image(
        id=raw["id"],
        name=raw.get("name") or "",
        status=raw["status"],
        visibility=raw["visibility"],
        hidden=bool(raw.get("os_hidden", False)),
        protected=bool(raw.get("protected", False)),
        owner=raw.get("owner") or "",
        disk_format=raw.get("disk_format") or "",
        size=raw.get("size"),
        hash_algorithm=raw.get("os_hash_algo"),
        hash_value=raw.get("os_hash_value"),
        min_disk=raw.get("min_disk", 0),
        min_ram=raw.get("min_ram", 0),
        created_at=raw["created_at"],
        tags=tuple(sorted(raw.get("tags", ()))),
        properties={name: str(value) for name, value in raw.items() if name not in _OWN_KEYS and value is not None},
    )


def _pointer(name: str) -> str:
    """A JSON pointer (RFC 6901) to a field of an image."""
    return "/" + name.replace("~", "~0").replace("/", "~1")
