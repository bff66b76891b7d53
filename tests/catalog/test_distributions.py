"""The table of distributions: complete, and in agreement with what elements and driver table have of each."""

import json
from typing import get_args

import pytest

from pipelines.catalog import distributions
from pipelines.catalog.distributions import DISTRIBUTIONS
from pipelines.gpus.database import facts
from tests.support.paths import ELEMENTS

RELEASES = [
    (name, release.codename, release) for name, row in DISTRIBUTIONS.items() for release in row.releases.values()
]


def test_the_catalog_accepts_exactly_the_distributions_of_the_table() -> None:
    assert get_args(distributions.Name) == tuple(DISTRIBUTIONS)


def test_the_drivers_of_every_release_are_known() -> None:
    assert {f"{name} {codename}" for name, codename, _ in RELEASES} == set(facts().releases)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_driver_table_calls_a_distribution_by_its_name(name: str) -> None:
    labels = [facts().releases[f"{name} {release.codename}"].label for release in DISTRIBUTIONS[name].releases.values()]
    short = DISTRIBUTIONS[name].label.removesuffix(" Linux")
    assert labels == [f"{short} {release.version}" for release in DISTRIBUTIONS[name].releases.values()]


@pytest.mark.parametrize(("name", "codename", "release"), RELEASES)
def test_the_elements_know_the_same_repository_of_nvidia(
    name: str, codename: str, release: distributions.Release
) -> None:
    names = json.loads((ELEMENTS / "nvidia-packages/pkg-map").read_text(encoding="utf-8"))["release"]
    assert names[name][codename]["repository"] == release.nvidia_repository


def test_what_a_distribution_lacks_is_its_own_or_its_familys() -> None:
    features = get_args(distributions.Feature)
    missing = {name: {each for each in features if not row.has(each)} for name, row in DISTRIBUTIONS.items()}
    assert missing["debian"] == {"fabric-manager"}
    assert missing["ubuntu"] == set()
    assert missing["rocky"] == missing["almalinux"] == missing["rhel"] == {"docker", "cuda-samples"}


@pytest.mark.parametrize(
    ("name", "release", "version"),
    [("debian", "trixie", "13"), ("ubuntu", "24.04", "24.04"), ("debian", "sarge", "sarge"), ("windows", "11", "11")],
)
def test_a_release_has_its_number_and_an_unknown_one_stays_as_it_is(name: str, release: str, version: str) -> None:
    assert distributions.version(name, release) == version
