"""How do we get into a cloud?

The only importer of the OpenStack libraries: openstack.config finds clouds and credentials, glanceclient speaks the v2
API, and keystoneauth1 below it keeps the token valid. A read is tried again, a change never is.

https://docs.openstack.org/python-glanceclient/latest/
"""

import os
import re
import urllib.parse
import warnings
from pathlib import Path
from typing import Any

from pipelines.glance.cloud import CHUNK, Cloud
from pipelines.glance.image import Image
from pipelines.keystone.errors import GlanceError, explained, unknown_cloud
from pipelines.util import console

__all__ = ["CHUNK", "Cloud", "Image", "connect", "names"]

# Seconds to connect (and to pass on one piece of a body), and to wait for (more of) an answer.
TIMEOUT = (30.0, 120.0)
_READ_RETRIES = {"connect_retries": 2, "status_code_retries": 2, "retriable_status_codes": [429, 502, 503, 504]}
_NO_RETRIES = {"connect_retries": 0, "status_code_retries": 0}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


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
        compute = _compute(region, session)
    # glanceclient adds /v2 itself, and some clouds' catalogs have it, too.
    where["endpoint_override"] = re.sub(r"/v2(\.\d+)?/?$", "", endpoint)
    reads, changes = (
        glanceclient.Client("2", session=session, **where, **policy) for policy in (_READ_RETRIES, _NO_RETRIES)
    )
    return Cloud(name=region.name, project_id=project, _reads=reads, _changes=changes, _compute_url=compute)


def _compute(region: Any, session: Any) -> str | None:
    """Where Nova is, by clouds.yaml or the cloud's catalog; None where neither says."""
    from keystoneauth1.exceptions import EndpointNotFound  # noqa: PLC0415

    where = {"region_name": region.get_region_name("compute"), "interface": region.get_interface("compute") or "public"}
    try:
        found: str | None = region.get_endpoint("compute") or session.get_endpoint(
            service_type="compute", skip_discovery=True, **where
        )
    except EndpointNotFound:
        return None
    return found


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
