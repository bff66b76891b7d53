"""The environment of tests, under one of an operator that would change what they do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import PROJECT

HOSTILE = {
    "OS_CLOUD": "prod",
    "OS_CLIENT_CONFIG_FILE": "/nonexistent",
    "DIB_RELEASE": "sid",
    "ELEMENTS_PATH": "/nonexistent",
    "http_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HOME": "/nonexistent",
    "TZ": "Asia/Tokyo",
    "LC_ALL": "C",
    "LANG": "de_DE.UTF-8",
    "FORCE_COLOR": "1",
    "POSIXLY_CORRECT": "1",
}
PROBE = """
import json, os, time, pytest
def state():
    umask = os.umask(0)
    os.umask(umask)
    print(json.dumps({"variables": dict(os.environ), "umask": umask, "zone": time.tzname[0]}))
def test_fast(): state()
@pytest.mark.slow
def test_slow(): state()
"""


@pytest.fixture
def seen(tmp_path: Path) -> list[dict[str, object]]:
    """What a fast and a slow test see under the hostile environment."""
    probe = tmp_path / "test_probe.py"
    probe.write_text(PROBE)
    options = ("-qs", "-p", "tests.support.hermetic", "-p", "no:cacheprovider", "-c", os.devnull)
    argv = (sys.executable, "-m", "pytest", *options, str(probe))
    environment = os.environ | HOSTILE | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(argv, env=environment, umask=0o077, check=True, capture_output=True, text=True)
    return [json.loads(line[line.index("{") :]) for line in done.stdout.splitlines() if "{" in line]


def test_nothing_of_the_operators_environment_reaches_a_fast_test(seen: list[dict[str, object]]) -> None:
    variables = seen[0]["variables"]
    assert isinstance(variables, dict)
    assert {name for name, value in HOSTILE.items() if variables.get(name) == value} == set()
    assert (seen[0]["umask"], seen[0]["zone"]) == (0o022, "UTC")
    assert not Path(variables["HOME"]).exists()  # it was there, and is gone with the run


def test_a_slow_test_has_the_proxies_but_not_for_loopback(seen: list[dict[str, object]]) -> None:
    variables = seen[1]["variables"]
    assert isinstance(variables, dict)
    assert variables["http_proxy"] == HOSTILE["http_proxy"]
    assert "127.0.0.1" in variables["no_proxy"]
