"""Metrics for monitoring, as Prometheus's own parser reads them."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.artifacts import records, store
from pipelines.artifacts.manifest import Artifact, Check, Verification
from pipelines.glance.client import Cloud
from pipelines.plan.model import CloudImage
from pipelines.reports import metrics
from pipelines.reports.metrics import Asked
from pipelines.util import files
from pipelines.util.errors import CloudError, HostError
from tests.support.command_line import inv
from tests.support.small_image import VARIANT
from tests.support.small_image import manifest as good_manifest

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OLD, NEW = "20261121T120000Z-01234567", "20261122T120000Z-01234567"
NAME = VARIANT.name
Samples = dict[tuple[str, frozenset[str]], float]


@pytest.fixture
def builds(tmp_path: Path) -> Path:
    """Two complete builds, the newer one verified, and a failed one."""
    root = tmp_path / "builds"
    for build_id, size in ((OLD, 1), (NEW, 644 * 2**20)):
        folder = root / NAME / build_id
        folder.mkdir(parents=True)
        artifact = Artifact(
            path="image.qcow2", format="qcow2", size=size, virtual_size=2, sha256="a" * 64, sha512="b" * 128
        )
        made = replace(good_manifest(artifact), build_id=build_id, seconds=300.5, layers={"base": 84.0, "driver": 37.5})
        files.write_json(folder / "manifest.json", made)
        store.set_state(folder, store.COMPLETE)
    failed = root / NAME / "20261123T110000Z-01234567"
    failed.mkdir()
    store.set_state(failed, store.FAILED, "no space")
    return root


def verified(builds: Path, *, passed: bool) -> None:
    check = Check(name="format", passed=passed, detail="")
    result = Verification(variant=NAME, build_id=NEW, checked_at="2026-11-22T12:00:00Z", checks=(check,))
    files.write_json(builds / NAME / NEW / "verify.json", result)


def parsed(text: str) -> Samples:
    """Every sample by its name and labels."""
    return {
        (sample.name.removeprefix("gpu_image_"), frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def samples(builds: Path, *asked: Asked) -> Samples:
    known = records.open("builds", builds)
    return parsed(metrics.text([VARIANT], builds, known, asked, NOW).decode())


def image(state: str = "current", build_id: str = OLD) -> CloudImage:
    return CloudImage(
        cloud="prod",
        id=f"id of {build_id}",
        variant=NAME,
        build_id=build_id,
        fingerprint="",
        release_digest="",
        state=state,  # type: ignore[arg-type]
        created_at=NOW,
    )


def of(name: str, *labels: str) -> tuple[str, frozenset[str]]:
    return name, frozenset(labels)


def test_the_newest_build_is_measured_whole_and_by_layer(builds: Path) -> None:
    found = samples(builds)
    assert found[of("build_duration_seconds", NAME)] == 300.5
    assert found[of("build_layer_duration_seconds", NAME, "driver")] == 37.5
    assert found[of("size_bytes", NAME)] == 644 * 2**20
    assert found[of("failed_builds", NAME)] == 1


def test_a_verification_is_1_0_or_absent(builds: Path) -> None:
    key = of("verification_passed", NAME)
    assert key not in samples(builds)
    verified(builds, passed=True)
    assert samples(builds)[key] == 1
    verified(builds, passed=False)
    assert samples(builds)[key] == 0


def test_the_current_image_is_as_old_as_its_build_and_not_as_its_upload(builds: Path) -> None:
    found = samples(builds, Asked(cloud="prod", current=[image()]))
    assert found[of("current_age_seconds", "prod", NAME)] == 2 * 86400
    assert found[of("current_timestamp_seconds", "prod", NAME)] == datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
    assert found[of("current_info", "prod", NAME, OLD, f"id of {OLD}")] == 1
    assert found[of("cloud_up", "prod")] == 1


@pytest.mark.parametrize(("gone_back", "counts"), [(False, 22), (True, 21)], ids=["newer", "not rolled back"])
def test_of_two_that_are_shown_the_one_that_stays_has_the_age(builds: Path, gone_back: bool, counts: int) -> None:
    current = [replace(image(build_id=NEW), rolled_back=gone_back), image()]
    known = records.open("builds", builds)
    text = metrics.text([VARIANT], builds, known, [Asked(cloud="prod", current=current)], NOW).decode()
    lines = [line.partition(" ")[0] for line in text.splitlines()]
    assert len(lines) - lines.count("#") == len(set(lines) - {"#"})  # node_exporter takes no line twice
    found = parsed(text)
    made_at = datetime(2026, 11, counts, 12, tzinfo=UTC)
    assert found[of("current_timestamp_seconds", "prod", NAME)] == made_at.timestamp()
    assert found[of("current_age_seconds", "prod", NAME)] == (NOW - made_at).total_seconds()
    assert {of("current_info", "prod", NAME, one, f"id of {one}") for one in (OLD, NEW)} <= found.keys()


def test_a_variant_without_a_build_has_no_numbers_but_its_failures(tmp_path: Path) -> None:
    assert samples(tmp_path / "nothing") == {of("failed_builds", NAME): 0}


def test_every_metric_is_a_gauge_with_an_explanation_and_a_base_unit(builds: Path) -> None:
    verified(builds, passed=True)
    known = records.open("builds", builds)
    text = metrics.text([VARIANT], builds, known, [Asked(cloud="prod", current=[image()])], NOW).decode()
    families = list(text_string_to_metric_families(text))
    assert families
    for family in families:
        assert family.name.startswith("gpu_image_")
        assert (family.type, bool(family.documentation)) == ("gauge", True)
    measured = {family.name for family in families if family.name.endswith(("_seconds", "_bytes"))}
    others = {"failed_builds", "verification_passed", "cloud_up", "current_info"}
    assert {family.name for family in families} == measured | {f"gpu_image_{name}" for name in others}


def test_a_cloud_that_does_not_answer_is_in_the_metrics_and_in_the_exit_code(builds: Path, tmp_path: Path) -> None:
    def refuse() -> Cloud:
        raise CloudError("prod cannot be reached")

    output = tmp_path / "images.prom"
    with pytest.raises(CloudError, match="prod cannot be reached"):
        metrics.write([VARIANT], builds, records.open("builds", builds), {"prod": refuse}, NOW, output=output)
    found = parsed(output.read_text())
    assert found[of("cloud_up", "prod")] == 0
    assert found[of("build_duration_seconds", NAME)] == 300.5


def test_the_file_is_whole_or_not_there_and_nothing_is_left_beside_it(builds: Path, tmp_path: Path) -> None:
    output = tmp_path / "images.prom"
    known = records.open("builds", builds)
    metrics.write([VARIANT], builds, known, {}, NOW, output=output)
    assert output.stat().st_mode & 0o777 == 0o644  # node_exporter is another user
    assert sorted(tmp_path.iterdir()) == [builds, output]
    with pytest.raises(HostError, match="cannot write"):
        metrics.write([VARIANT], builds, known, {}, NOW, output=tmp_path / "no" / "such.prom")


def test_metrics_go_to_stdout_alone(builds: Path) -> None:
    result = inv("metrics", "--only", NAME, "--builds", builds)
    assert result.returncode == 0, result.stderr
    assert parsed(result.stdout)[of("size_bytes", NAME)] == 644 * 2**20
