"""Options and connections that tasks share."""

from pathlib import Path

import pytest

from pipelines.cli import options
from tests.support.cloud_fixtures import TestCloud


def test_a_cloud_that_the_user_names_wins_over_the_checkouts_own(
    local_cloud: TestCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = local_cloud.root / "clouds.yaml", tmp_path / "clouds.yaml"
    ours.write_text(theirs.read_text().replace("http://127.0.0.1:", "http://127.0.0.1:9/"))  # nothing listens there
    monkeypatch.setattr(options, "CLOUD_ROOT", tmp_path)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(theirs))
    assert options.connect(["local"])[0].project_id
    assert f"{theirs} is used" in capsys.readouterr().err
