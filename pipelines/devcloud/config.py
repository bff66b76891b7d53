"""Configuration of the local cloud's services and users.

`settings.json` has what stays from one start to the next: addresses, one password for all accounts, the accounts. The
services' files and clouds.yaml are written from it at every start.
"""

import json
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """A user with a role in a project. `cloud` is its entry in clouds.yaml, empty for a service's own user."""

    cloud: str
    user: str
    project: str
    role: str


# `local` is an administrator, who may make images public. `local-member` may not, and the images of `local-other`
# belong to another project.
ACCOUNTS = (
    Account(cloud="local", user="admin", project="admin", role="admin"),
    Account(cloud="local-member", user="member", project="demo", role="member"),
    Account(cloud="local-other", user="other", project="other", role="member"),
    Account(cloud="", user="glance", project="service", role="service"),
)

# Glance's stores → their folders. The last two are Glance's own.
STORES = {"main": "main", "second": "second", "os_glance_staging_store": "staging", "os_glance_tasks_store": "tasks"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the services and their users have to agree on."""

    keystone_url: str
    glance_url: str
    password: str


def load(root: Path) -> Settings | None:
    """Return the settings of the latest start, None before the first one."""
    path = root / "settings.json"
    if not path.exists():
        return None
    raw = json.loads(path.read_text(encoding="utf-8"))
    return Settings(keystone_url=raw["keystone_url"], glance_url=raw["glance_url"], password=raw["password"])


def write(
    root: Path, saved: Settings | None, urls: tuple[str, str], *, venv: Path, options: Mapping[str, str]
) -> Settings:
    """Write every file for these addresses (Keystone's, Glance's), and return the settings.

    `venv` has the services' own data files; `options` go into Glance's [DEFAULT]. Only the owner can read the files.
    """
    password = saved.password if saved else secrets.token_hex(16)
    settings = Settings(keystone_url=urls[0], glance_url=urls[1], password=password)
    raw = {**asdict(settings), "accounts": [asdict(account) for account in ACCOUNTS]}
    (root / "keystone").mkdir(exist_ok=True)
    for folder in ("locks", *STORES.values()):
        (root / "glance" / folder).mkdir(exist_ok=True, parents=True)
    _private(root / "settings.json", json.dumps(raw, indent=2, sort_keys=True))
    _private(root / "clouds.yaml", yaml.safe_dump({"clouds": _clouds(settings)}))
    _private(root / "keystone" / "keystone.conf", _ini(_keystone(root)))
    _private(root / "glance" / "glance-api.conf", _ini(_glance(root, settings, venv, options)))
    # web-download from loopback, which Glance refuses unless told otherwise; the brackets make them lists.
    filters = {"allowed_hosts": "[127.0.0.1]", "allowed_ports": "[]"}
    _private(root / "glance" / "glance-image-import.conf", _ini({"import_filtering_opts": filters}))
    return settings


def environment(settings: Settings) -> list[str]:
    """Return lines for a shell's `eval` that set the administrator's OS_… variables."""
    values = {f"OS_{name.upper()}": value for name, value in _auth(settings, ACCOUNTS[0]).items()}
    values |= {"OS_REGION_NAME": "RegionOne", "OS_IDENTITY_API_VERSION": "3"}
    # A cloud chosen earlier in the same shell would win over these variables.
    return ["unset OS_CLOUD", *(f"export {name}={shlex.quote(value)}" for name, value in sorted(values.items()))]


def _clouds(settings: Settings) -> dict[str, object]:
    return {
        account.cloud: {"auth": _auth(settings, account), "region_name": "RegionOne", "identity_api_version": 3}
        for account in ACCOUNTS
        if account.cloud
    }


def _auth(settings: Settings, account: Account) -> dict[str, str]:
    return {
        "auth_url": f"{settings.keystone_url}/v3",
        "username": account.user,
        "password": settings.password,
        "project_name": account.project,
        "user_domain_id": "default",
        "project_domain_id": "default",
    }


def _keystone(root: Path) -> dict[str, Mapping[str, str]]:
    here = root / "keystone"
    return {
        "DEFAULT": {"use_stderr": "true"},
        # Every request to Glance has its token validated; this takes 20 ms with the cache, 170 ms without.
        "cache": {"enabled": "true", "backend": "dogpile.cache.memory"},
        "identity": {"password_hash_rounds": "4"},  # the least: these passwords protect nothing
        "database": _database(here / "keystone.sqlite"),
        # Each of the three would be below /etc/keystone otherwise.
        "fernet_tokens": {"key_repository": str(here / "fernet-keys")},
        "fernet_receipts": {"key_repository": str(here / "receipt-keys")},
        "credential": {"key_repository": str(here / "credential-keys")},
    }


def _glance(root: Path, settings: Settings, venv: Path, options: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    here = root / "glance"
    stores = {name: {"filesystem_store_datadir": str(here / folder)} for name, folder in STORES.items()}
    auth = _auth(settings, next(account for account in ACCOUNTS if account.user == "glance"))
    return {
        "DEFAULT": {
            "use_stderr": "true",
            "enabled_backends": "main:file, second:file",
            "worker_self_reference_url": settings.glance_url,
            "metadata_source_path": str(venv / "etc" / "glance" / "metadefs"),
            **options,
        },
        "database": _database(here / "glance.sqlite"),
        "glance_store": {"default_backend": "main"},
        **stores,
        "oslo_concurrency": {"lock_path": str(here / "locks")},
        "paste_deploy": {"flavor": "keystone", "config_file": str(venv / "etc" / "glance" / "glance-api-paste.ini")},
        # Glance asks Keystone about a token again after a second, and not at every request, which takes as long as
        # the request: one that was revoked is soon refused, as it would be after its expiry.
        "keystone_authtoken": {
            **auth, "auth_type": "password", "www_authenticate_uri": settings.keystone_url, "token_cache_time": "1",
        },
    }  # fmt: skip


def _database(path: Path) -> dict[str, str]:
    # Waiting for SQLite's one writer instead of failing; a crash of the whole machine may lose this data.
    return {"connection": f"sqlite:///{path}?timeout=60", "sqlite_synchronous": "false"}


def _ini(sections: Mapping[str, Mapping[str, str]]) -> str:
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items()), ""]
    return "\n".join(lines)


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
