"""Connection to a cloud's Glance, by glanceclient.

https://docs.openstack.org/python-glanceclient/latest/
"""

import re
from pathlib import Path

from pipelines.glance.cloud import CHUNK, Cloud
from pipelines.glance.image import Image
from pipelines.keystone import session as keystone_session
from pipelines.keystone.errors import ServiceError

__all__ = ["CHUNK", "Cloud", "Image", "connect"]


def connect(cloud: str, *, file: Path | None = None, fallback: Path | None = None) -> Cloud:
    """Authenticate to a cloud, and find its Glance; where the cloud is defined is as in keystone.session.connect."""
    import glanceclient  # noqa: PLC0415  # slow imports: half a second

    session = keystone_session.connect(cloud, file=file, fallback=fallback)
    endpoint = session.endpoint("image")
    if endpoint is None:
        what = f"{cloud}: neither clouds.yaml nor the cloud's catalog has an image service"
        raise ServiceError(what, remedy="Check region_name and interface, or set image_endpoint_override.", status=None)
    # glanceclient adds /v2 itself, and some clouds' catalogs have it, too.
    where = session.where("image") | {"endpoint_override": re.sub(r"/v2(\.\d+)?/?$", "", endpoint)}
    reads, changes = (
        glanceclient.Client("2", session=session.http, **where, **policy)
        for policy in (keystone_session.READ_RETRIES, keystone_session.NO_RETRIES)
    )
    return Cloud(session=session, _reads=reads, _changes=changes)
