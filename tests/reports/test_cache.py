"""The cache as `inv cache` shows it."""

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.cache import store
from pipelines.reports import cache
from tests.support.cached import (
    CONTENT,
    KEY,
    NOW,
    keep,
    taken,
)
from tests.support.command_line import inv


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "builds" / ".cache"


def test_the_table_has_size_age_and_hits_and_a_total_with_the_limit(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(root, "a")
    keep(root, "b", b"x" * 1536, store.MODULES)
    taken(root, "a")
    for place, hours in ((root / store.LAYERS / "a", 67), (root / store.MODULES / "b", 68)):
        then = (NOW + timedelta(hours=hours)).timestamp()
        os.utime(place / "uses", (then, then))
    cache.show(root, None, NOW + timedelta(days=3), clear=False, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "Cache, least recently used first",
        "  kind     what       size               age  last used  hits",
        "  layers   about a    8 KiB              3d   5h ago     1",
        "  modules  about b    1.5 KiB            3d   -          0",
        "  total    2 entries  9.5 KiB of 40 GiB",
    ]


def test_clearing_reports_what_was_evicted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(root)
    cache.show(root, None, NOW, clear=True, as_json=False)
    said, noted = capsys.readouterr()
    assert noted == "evicted: 1 entry, 8 KiB\n"
    assert "0 entries  0 bytes of 40 GiB" in said


def test_inv_cache_prints_json_alone_and_keeps_the_limit(root: Path) -> None:
    keep(root)
    common = ("cache", "--builds", root.parent, "--json")
    assert inv(*common, "--limit", "20GiB").returncode == 0
    result = inv(*common, "--clear")
    found = json.loads(result.stdout)
    assert (found["size"], found["limit"], found["entries"]) == (0, 20 * 2**30, [])
    (evicted,) = found["evicted"]
    assert evicted == evicted | {"kind": "layers", "key": KEY, "size": len(CONTENT), "hits": 0, "used_at": None}


def test_inv_cache_with_an_invalid_limit_is_exit_1_with_the_remedy(root: Path) -> None:
    result = inv("cache", "--builds", root.parent, "--limit", "20 gigs")
    assert (result.returncode, result.stdout) == (1, "")
    assert "--limit 40GiB" in result.stderr
