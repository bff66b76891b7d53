"""An environment for tests that does not depend on the operator's.

Settings of OpenStack's tools, diskimage-builder, shells, locales and the home folder change what programs do, ours
included. Tests see the variables that are listed here, and set all others themselves.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

_KEPT = frozenset(
    (
        *("PATH", "TMPDIR", "USER", "LOGNAME", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CI"),
        *("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    )
)
# How this run of pytest goes, and how an operator's host reaches its package index: the local cloud is installed.
_KEPT_PREFIXES = ("PYTEST_", "HYPOTHESIS_", "COVERAGE_", "PIP_", "UV_")
_PROXIES = frozenset(
    name for lower in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (lower, lower.upper())
)
_LOOPBACK = "127.0.0.1,localhost,::1"
_HOME = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Replace the environment, before a module of ours is imported that reads it."""
    os.umask(0o022)
    if not hasattr(config, "workerinput"):  # xdist's workers inherit the environment
        config.stash[_HOME] = home = Path(tempfile.mkdtemp(prefix="home-of-tests-"))
        ours = _own(home)
        os.environ.clear()
        os.environ.update(ours)
    time.tzset()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the home folder."""
    if _HOME in config.stash:
        shutil.rmtree(config.stash[_HOME], ignore_errors=True)


def _own(home: Path) -> dict[str, str]:
    """The environment of tests, with this home folder."""
    clouds = home / "clouds.yaml"
    clouds.write_text("clouds: {}\n", encoding="utf-8")
    names = _KEPT | _PROXIES
    kept = {name: value for name, value in os.environ.items() if name in names or name.startswith(_KEPT_PREFIXES)}
    if _PROXIES & kept.keys():
        kept["no_proxy"] = ",".join(filter(None, (kept.get("no_proxy"), _LOOPBACK)))
    for pip in (Path.home() / ".config" / "pip" / "pip.conf", Path.home() / ".pip" / "pip.conf"):
        if pip.exists():
            kept.setdefault("PIP_CONFIG_FILE", str(pip))
    ours = {"HOME": str(home), "LC_ALL": "C.UTF-8", "TZ": "UTC", "TERM": "dumb", "OS_CLIENT_CONFIG_FILE": str(clouds)}
    return kept | ours


@pytest.fixture(autouse=True)
def _without_proxies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies are for slow tests alone, which install packages from the network."""
    if request.node.get_closest_marker("slow") is None:
        for name in _PROXIES:
            monkeypatch.delenv(name, raising=False)
