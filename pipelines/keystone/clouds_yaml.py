"""Search for a cloud in clouds.yaml and OS_* variables, where all OpenStack tools look for it.

https://docs.openstack.org/openstacksdk/latest/user/config/configuration.html
"""

import os
import warnings
from pathlib import Path
from typing import Any

from pipelines.keystone.errors import explained, unknown_cloud
from pipelines.util import console


def find(name: str, fallback: Path | None = None) -> Any:
    """A cloud as openstack.config has it: the user's own or, where the user defines none of this name, the fallback's.

    `envvars` is the one that OS_* variables describe.
    """
    with explained(name, "read its configuration"):
        own, spare = _users(), _file(fallback)
        in_own, in_spare = name in _names(own), name in _names(spare)
        if in_own and in_spare:
            used = f"{own.config_filename} is" if _from_file(own, name) else "your OS_* variables are"
            console.warn(f"the cloud {name} is also defined in {fallback}; {used} used")
        if not in_own and not in_spare:
            raise unknown_cloud(name, sorted(_names(own) | _names(spare)))
        return _entry(own if in_own else spare, name)


def read(name: str, path: Path) -> Any:
    """A cloud of this file alone."""
    with explained(name, "read its configuration"):
        config = _file(path)
        if name not in _names(config):
            raise unknown_cloud(name, sorted(_names(config)))
        return _entry(config, name)


def _users() -> Any:
    from openstack.config import OpenStackConfig  # noqa: PLC0415  # a slow import

    return OpenStackConfig(app_name="gpu-image-pipeline")


def _file(path: Path | None) -> Any:
    """A file's clouds, which the user's variables do not change; None where this user has no such file to read."""
    from openstack.config import OpenStackConfig  # noqa: PLC0415  # a slow import

    # The local cloud of the checkout's owner is closed to other users.
    if path is None or not os.access(path, os.R_OK, effective_ids=True):
        return None
    return OpenStackConfig(config_files=[str(path)], secure_files=[], load_envvars=False)


def _names(config: Any) -> set[str]:
    # With nothing configured at all, openstack.config makes up a cloud of this name.
    return set(config.get_cloud_names()) - ({"defaults"} if not config.config_filename else set()) if config else set()


def _from_file(config: Any, name: str) -> bool:
    """Whether a file, and not OS_* variables, defines a cloud."""
    return config.config_filename is not None and name != config.envvar_key


def _entry(config: Any, name: str) -> Any:
    with warnings.catch_warnings():
        # openstacksdk warns of its InfluxDB reports for every cloud, also for those that want none.
        warnings.filterwarnings("ignore", message="Support for InfluxDB")
        return config.get_one(cloud=name)
