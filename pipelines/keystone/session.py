"""Authenticated session of one project in one cloud, for any of the cloud's services.

https://docs.openstack.org/keystoneauth/latest/
"""

import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.keystone import clouds_yaml
from pipelines.keystone.errors import ServiceError, explained

# Seconds to connect (and to pass on one piece of a body), and to wait for (more of) an answer.
TIMEOUT = (30.0, 120.0)
# A read is tried again, a change never is. For keystoneauth1's requests, and clients that are adapters of it.
READ_RETRIES = {"connect_retries": 2, "status_code_retries": 2, "retriable_status_codes": [429, 502, 503, 504]}
NO_RETRIES = {"connect_retries": 0, "status_code_retries": 0}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """`http` is keystoneauth1's session: HTTP requests with the project's token, which it renews."""

    cloud: str
    project_id: str
    http: Any
    _region: Any = field(compare=False)  # the cloud's entry in clouds.yaml, as openstack.config has it; has no hash

    def where(self, service: str) -> dict[str, str]:
        """The region and the interface of a service's endpoint, as keystoneauth1 names these arguments."""
        return {
            "region_name": self._region.get_region_name(service),
            "interface": self._region.get_interface(service) or "public",
        }

    def endpoint(self, service: str) -> str | None:
        """The address of a service, by its type; None where neither clouds.yaml nor the cloud's catalog has one."""
        from keystoneauth1.exceptions import EndpointNotFound  # noqa: PLC0415  # a slow import

        with explained(self.cloud, f"find its {service} service"):
            own: str | None = self._region.get_endpoint(service)
            if own:
                return own
            try:
                found: str | None = self.http.get_endpoint(
                    service_type=service, skip_discovery=True, **self.where(service)
                )
            except EndpointNotFound:
                return None
            return found


def connect(cloud: str, *, file: Path | None = None, fallback: Path | None = None) -> Session:
    """Authenticate to a cloud: to that of `file` alone or, without it, to the user's own or the fallback's.

    ServiceError for an unknown cloud, wrong credentials, and a Keystone that does not answer.
    """
    region = clouds_yaml.read(cloud, file) if file else clouds_yaml.find(cloud, fallback)
    with explained(cloud, "read its configuration"):
        http = region.get_session()
    http.timeout = TIMEOUT
    if urllib.parse.urlsplit(region.config["auth"].get("auth_url", "")).hostname in _LOOPBACK:
        http.session.trust_env = False  # http_proxy is for other hosts
    with explained(cloud, "authenticate"):
        project = http.get_project_id()
    if not project:
        what = f"{cloud}: the credentials do not name a project"
        raise ServiceError(what, remedy="Set project_name (OS_PROJECT_NAME) and its domain.", status=None)
    return Session(cloud=cloud, project_id=project, http=http, _region=region)
