"""Resolver of drivers: what is selected and why, what is refused and what to write instead, and four laws."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.glance import properties
from pipelines.gpus import nearest
from pipelines.gpus.resolver import (
    Impossible,
    Request,
    Selection,
    known,
    models_of,
    placement,
    resolve,
    warnings,
)
from pipelines.reports import gpus as reports_gpus
from pipelines.util.errors import CatalogError, UsageError
from tests.support.paths import PROJECT

DATA = yaml.safe_load((PROJECT / "pipelines" / "gpus" / "gpus.yaml").read_text())
TODAY = date(2026, 11, 22)
TRIXIE = Request(distribution="debian", release="trixie", source="nvidia-repo")
BASES = {
    "bookworm": replace(TRIXIE, release="bookworm"),
    "trixie": TRIXIE,
    "jammy": replace(TRIXIE, distribution="ubuntu", release="jammy"),
    "noble": replace(TRIXIE, distribution="ubuntu", release="noble"),
    "resolute": replace(TRIXIE, distribution="ubuntu", release="resolute"),
    "rocky-9": replace(TRIXIE, distribution="rocky", release="9"),
    "almalinux-10": replace(TRIXIE, distribution="almalinux", release="10"),
    "rhel-10": replace(TRIXIE, distribution="rhel", release="10"),
}


def request(guest: str, gpus: str = "", **changes: Any) -> Request:
    return replace(BASES[guest], gpus=tuple(gpus.split()), **changes)


def refusal(asked: Request) -> Impossible:
    with pytest.raises(Impossible) as caught:
        resolve(asked)
    return caught.value


# --- What is selected -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "branch", "modules"),
    [
        (request("trixie", "v100"), 580, "proprietary"),
        (request("trixie", "v100 h100"), 580, "proprietary"),
        (request("trixie", "v100 a100", branch=580), 580, "proprietary"),
        (request("trixie", "t4 a100 l40s h100"), 595, "open"),
        (request("trixie", "b200"), 595, "open"),
        (request("trixie", "h100 b200", branch=580), 580, "open"),
        (request("trixie", "h100", modules="proprietary"), 595, "proprietary"),
        (request("trixie", "h100", branch=620), 620, "open"),
        (request("trixie", "pascal"), 580, "proprietary"),
        (request("trixie"), 595, "open"),
        (request("trixie", source="archive"), 550, "proprietary"),
        (request("trixie", "h100", source="archive"), 550, "proprietary"),
        (request("trixie", "h100", source="archive", modules="open"), 550, "open"),
        (request("bookworm", "p100 t4", source="archive"), 535, "proprietary"),
        (request("noble", "v100", source="archive"), 580, "proprietary"),
        (request("noble", "h100", source="precompiled"), 595, "open"),
        (request("resolute", "v100", source="precompiled", architecture="arm64"), 580, "proprietary"),
        (request("rocky-9", "gh200", architecture="arm64"), 595, "open"),
        (request("trixie", "gh200", source="archive", architecture="arm64"), 550, "open"),
        (request("rhel-10", "b300", branch=580), 580, "open"),
        (request("almalinux-10", "v100 h100"), 580, "proprietary"),
        (request("trixie", "h100", source="runfile", version="580.95.05"), 580, "open"),
        (request("trixie", "v100", source="local", branch=580), 580, "proprietary"),
    ],
)
def test_the_branch_and_modules_serve_all_gpus(asked: Request, branch: int, modules: str) -> None:
    choice = resolve(asked)
    assert (choice.branch, choice.modules) == (branch, modules)


def test_given_packages_without_a_named_branch_or_gpu_decide_themselves() -> None:
    assert resolve(request("trixie", source="local", modules="proprietary")) == Selection(
        branch=None,
        modules="proprietary",
        toolkit=None,
        reasons=("branch: that of the given files", "proprietary modules: as requested"),
    )


def test_without_a_driver_there_is_nothing_to_choose() -> None:
    choice = resolve(request("trixie", "v100 b200", source="none"))
    assert (choice.branch, choice.reasons) == (None, ("no driver is installed",))


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request("trixie", "v100 h100"), "branch 580: V100 is Volta, whose last branch it is"),
        (request("trixie", "v100 h100"), "proprietary modules: V100 is Volta, which works with these only"),
        (request("trixie", "b200"), "branch 595: the newest production branch in NVIDIA's repository for Debian 13"),
        (request("trixie", "b200"), "open modules: B200 is Blackwell, which works with these only"),
        (request("trixie", "h100"), "open modules: the default of branch 595"),
        (request("trixie", "h100", branch=580), "branch 580: as requested"),
        (request("trixie", "h100", modules="proprietary"), "proprietary modules: as requested"),
        (request("trixie", branch=620), "open modules: branch 620 has no others"),
        (
            request("trixie"),
            "open modules: the default of branch 595; they work with Turing and newer (no `gpus` are named)",
        ),
        (request("trixie", source="archive"), "branch 550: Debian 13's own archive has no other"),
        (request("trixie", source="runfile", version="580.95.05"), "branch 580: that of version 580.95.05"),
        (request("trixie", "h100", toolkit="12.8"), "CUDA 12.8: as requested"),
        (request("trixie", "h100", toolkit="archive"), "CUDA 12.4: the one in Debian 13's archive"),
        (
            request("trixie", "h100", branch=580, toolkit="13.2"),
            "CUDA 13.2 came with branch 595; 580 runs it by minor version compatibility",
        ),
        (
            request("noble", "b200", toolkit="archive"),
            "CUDA 12.0 is older than B200 (12.8), which runs its programs from PTX only",
        ),
    ],
)
def test_a_selection_has_its_reason(asked: Request, reason: str) -> None:
    assert reason in resolve(asked).reasons


@pytest.mark.parametrize(
    ("asked", "toolkit"),
    [
        (request("trixie", "h100", branch=580, toolkit="auto"), "13.0"),
        (request("trixie", "v100 h100", toolkit="auto"), "12.9"),
        (request("trixie", "b200", toolkit="auto"), "13.2"),
        (request("trixie", "h100", source="archive", toolkit="auto"), "12.4"),
        (request("trixie", source="none", toolkit="auto"), "13.3"),
    ],
    ids=str,
)
def test_the_toolkit_follows_from_the_driver_and_the_gpus(asked: Request, toolkit: str) -> None:
    assert resolve(asked).toolkit == toolkit


def test_no_toolkit_follows_from_given_files_of_any_branch() -> None:
    asked = request("trixie", source="local", toolkit="auto")
    assert "so no toolkit can be selected for it" in str(refusal(asked))
    assert [resolve(other) for other in nearest.nearest(asked)]


# --- What is refused ------------------------------------------------------------------------------------------------

REFUSED = {
    "the last branch": (
        request("trixie", "v100", branch=595),
        "V100 is Volta, whose last branch is 580; write branch: 580",
    ),
    "the last branch, by version": (
        request("trixie", "p100", source="runfile", version="595.71.05"),
        'P100 is Pascal, whose last branch is 580; write version: "580.…"',
    ),
    "the first branch": (
        request("trixie", "b300", source="runfile", branch=570),
        "B300 needs branch 575 or newer; write branch: 595",
    ),
    "proprietary modules for Blackwell": (
        request("trixie", "b200", modules="proprietary"),
        "B200 is Blackwell, which works with open modules only; write modules: open",
    ),
    "proprietary modules for Grace Hopper": (
        request("noble", "gh200", architecture="arm64", modules="proprietary"),
        "GH200 is Grace Hopper, which works with open modules only; write modules: open",
    ),
    "open modules for Volta": (
        request("trixie", "v100", branch=580, modules="open"),
        "V100 is Volta, which works with proprietary modules only; write modules: proprietary",
    ),
    "proprietary modules of 620": (
        request("trixie", "h100", branch=620, modules="proprietary"),
        "branch 620 has no proprietary modules; write branch: 595",
    ),
    "two modules in one image": (
        request("trixie", "v100 b200"),
        "V100 needs proprietary modules and B200 open ones; make two images, gpus: [v100] and gpus: [b200]",
    ),
    "two modules, others beside them": (
        request("trixie", "v100 h100 b200 t4", branch=595),
        "V100 needs proprietary modules and B200 open ones; "
        "make two images, gpus: [v100, h100, t4], branch: 580 and gpus: [b200]",
    ),
    "two modules by generation": (
        request("trixie", "blackwell volta"),
        "B200 needs open modules and V100 proprietary ones; make two images, gpus: [blackwell] and gpus: [volta]",
    ),
    "an arm64 processor": (
        request("noble", "gb200"),
        "GB200 is one module with an arm64 processor, but the image is for amd64; write architecture: arm64",
    ),
    "CUDA 13 for Volta": (
        request("trixie", "v100", toolkit="13.0"),
        'CUDA 13 no longer compiles for Volta (V100); write toolkit: "12.9"',
    ),
    "CUDA 13 for Pascal": (
        request("trixie", "h100 p100", branch=580, toolkit="13.0"),
        'CUDA 13 no longer compiles for Pascal (P100); write toolkit: "12.9"',
    ),
    "CUDA 13 on an old branch": (
        request("trixie", "h100", source="runfile", branch=550, toolkit="13.0"),
        "CUDA 13.0 needs branch 580 or newer, not 550; write branch: 595",
    ),
    "CUDA 13 on an old archive": (
        request("trixie", "h100", source="archive", toolkit="13.0"),
        'Debian 13\'s own archive has only driver 550, and CUDA 13.0 needs 580 or newer; write toolkit: "12.9"',
    ),
    "an archive without CUDA": (
        request("rocky-9", "h100", toolkit="archive"),
        'Rocky 9\'s own archive has no CUDA toolkit; write toolkit: "13.3"',
    ),
    "an unknown CUDA": (
        request("trixie", "h100", toolkit="12.7"),
        'CUDA 12.7 is not in pipelines/gpus/gpus.yaml; write toolkit: "12.6"',
    ),
    "an archive that is too old": (
        request("trixie", "b200", source="archive"),
        "Debian 13's own archive has only driver 550, and B200 needs branch 570 or newer; "
        "write source: nvidia-repo, branch: 595",
    ),
    "a branch that the archive has not": (
        request("trixie", "b200", source="archive", branch=580),
        "Debian 13's own archive has only driver 550, not 580; write source: nvidia-repo",
    ),
    "a repository that is too new": (
        request("resolute", "v100"),
        "NVIDIA's repository for Ubuntu 26.04 has drivers 595, 610 and 620, and V100 is Volta, whose last branch is "
        "580; write source: archive, branch: 580",
    ),
    "an archive without a driver": (
        request("rocky-9", "h100", source="archive"),
        "Rocky 9's own archive has no NVIDIA driver; write source: nvidia-repo, branch: 595",
    ),
    "precompiled modules of Debian": (
        request("trixie", "h100", source="precompiled", branch=580),
        "Debian 13 has no precompiled NVIDIA modules; only Ubuntu compiles and signs such modules; "
        "write source: nvidia-repo",
    ),
    "an archive of AlmaLinux": (
        request("almalinux-10", "h100", source="archive"),
        "AlmaLinux 10's own archive has no NVIDIA driver; write source: nvidia-repo, branch: 595",
    ),
    "precompiled modules of RHEL": (
        request("rhel-10", source="precompiled"),
        "RHEL 10 has no precompiled NVIDIA modules; only Ubuntu compiles and signs such modules; "
        "write source: nvidia-repo, branch: 595",
    ),
    "a version of another branch": (
        request("trixie", branch=595, version="580.95.05"),
        "version 580.95.05 is not of branch 595; write branch: 580",
    ),
    "an unknown branch": (
        request("trixie", branch=600),
        "driver branch 600 is not in pipelines/gpus/gpus.yaml; write branch: 595",
    ),
    "given packages of any branch": (
        request("trixie", "v100", source="local"),
        "a driver from `source: local` can be of any branch, and not every branch serves V100; write branch: 580",
    ),
    "a runfile of an unknown branch": (
        request("trixie", source="runfile", version="999.10.05"),
        'driver branch 999 is not in pipelines/gpus/gpus.yaml; write version: "595.…"',
    ),
    "a toolkit alone that the archive has not": (
        request("rocky-9", source="none", toolkit="archive"),
        'Rocky 9\'s own archive has no CUDA toolkit; write toolkit: "13.3"',
    ),
    "a misspelt GPU": (
        request("trixie", "h10 v100", branch=580),
        "h10 is not in pipelines/gpus/gpus.yaml; write gpus: [h100, v100]",
    ),
}


@pytest.mark.parametrize(("asked", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_has_the_reason_and_what_to_write(asked: Request, said: str) -> None:
    assert str(refusal(asked)) == said


def test_a_release_that_is_not_known_has_nothing_near_it() -> None:
    asked = replace(TRIXIE, release="sid")
    assert str(refusal(asked)) == "debian sid is not in pipelines/gpus/gpus.yaml"
    assert nearest.nearest(asked) == ()


# --- Laws -----------------------------------------------------------------------------------------------------------

BRANCHES, TOOLKITS = tuple(DATA["branches"]), tuple(DATA["toolkits"])
SOURCES = ("archive", "nvidia-repo", "runfile", "local", "precompiled")
GPUS = st.lists(st.sampled_from(known()), max_size=3, unique=True).map(tuple)
REQUESTS = st.builds(
    replace,
    st.sampled_from(list(BASES.values())),
    gpus=GPUS,
    architecture=st.sampled_from(["amd64", "arm64"]),
    source=st.sampled_from(SOURCES),
    branch=st.sampled_from([None, *BRANCHES, 615]),
    version=st.sampled_from([None, None, "580.95.05", "595.71.05"]),
    modules=st.sampled_from(["auto", "open", "proprietary"]),
    toolkit=st.sampled_from([None, "archive", "12.7", *TOOLKITS]),
)


def generations(names: Sequence[str]) -> list[dict[str, Any]]:
    """What gpus.yaml says of the generations of some GPUs."""
    return [DATA["generations"][DATA["gpus"][model]["generation"]] for name in names for model in models_of(name)]


def outcome(asked: Request) -> Selection | Impossible:
    try:
        return resolve(asked)
    except Impossible as refused:
        return refused


def works(asked: Request) -> bool:
    return isinstance(outcome(asked), Selection)


@given(REQUESTS)
@settings(max_examples=100, deadline=None)
def test_a_choice_satisfies_every_gpu(asked: Request) -> None:
    choice = outcome(asked)
    if isinstance(choice, Impossible):
        return
    for generation in generations(asked.gpus):
        assert generation["first_branch"] <= (choice.branch or 0) <= generation.get("last_branch", 9999)
        assert choice.modules in generation["modules"]
        assert generation.get("architecture") in (None, asked.architecture)
    assert asked.modules in ("auto", choice.modules)


@given(GPUS, st.sampled_from(known()), st.sampled_from(["amd64", "arm64"]))
@settings(max_examples=60, deadline=None)
def test_one_more_gpu_never_widens_the_branches(gpus: tuple[str, ...], more: str, architecture: str) -> None:
    def served(names: tuple[str, ...]) -> set[int]:
        asked = replace(TRIXIE, source="runfile", gpus=names, architecture=architecture)
        return {branch for branch in BRANCHES if works(replace(asked, branch=branch))}

    assert served((*gpus, more)) <= served(gpus)


@given(REQUESTS)
@settings(max_examples=100, deadline=None)
def test_what_a_refusal_names_resolves_and_serves_all_the_gpus(asked: Request) -> None:
    refused = outcome(asked)
    if isinstance(refused, Selection):
        return
    instead = nearest.nearest(asked)
    assert instead
    assert all(works(image) for image in instead)
    assert sorted(name for image in instead for name in image.gpus) == sorted(asked.gpus)
    assert str(refused).endswith(f"; {nearest.advice(asked, instead)}")
    assert "None" not in str(refused)


@given(
    st.sampled_from(sorted(DATA["gpus"])),
    st.integers(min_value=1, max_value=16),
    st.integers(min_value=1, max_value=6144),
)
@settings(max_examples=300, deadline=None)
def test_the_bars_and_the_ram_fit_into_the_address_width(gpu: str, count: int, ram: int) -> None:
    found = placement([gpu], count, ram).properties
    bars = count * DATA["gpus"][gpu].get("bar", 0)
    gib = 2 ** (int(found.get("hw_maxphysaddr_bits", "40")) - 30)
    window = gib / 8 if "hw_maxphysaddr_bits" in found else 32
    assert bars < window
    assert ram + window <= gib or bars == 0


# --- How long a branch lasts ----------------------------------------------------------------------------------------


def test_a_branch_past_its_end_of_life_is_named_with_one_that_lasts() -> None:
    assert warnings(535, TODAY) == (
        "driver branch 535 is past its end of life of 2026-06-30; "
        "write branch: 580 (until 2028-06-30), if the source has it",
    )


def test_a_branch_that_nvidia_no_longer_lists_is_named() -> None:
    choice = resolve(request("trixie", source="archive"))
    assert warnings(choice, TODAY) == (
        "NVIDIA no longer supports driver branch 550; write branch: 580 (until 2028-06-30), if the source has it",
    )


@pytest.mark.parametrize(
    ("today", "said"),
    [
        (date(2026, 12, 30), 0),
        (date(2026, 12, 31), 1),
        (date(2027, 3, 31), 1),
    ],
)
def test_the_last_90_days_of_a_branch_are_announced(today: date, said: int) -> None:
    found = warnings(595, today)
    assert len(found) == said
    assert all(f"in {(date(2027, 3, 31) - today).days} days" in line for line in found)


def test_the_branch_that_lasts_longest_has_nothing_to_be_replaced_with() -> None:
    assert warnings(580, date(2028, 7, 1)) == ("driver branch 580 is past its end of life of 2028-06-30",)


@pytest.mark.parametrize("branch", [580, 595, 620, None])
def test_a_branch_that_lasts_is_not_mentioned(branch: int | None) -> None:
    assert warnings(branch, TODAY) == ()


# --- Firmware and address width -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "count", "ram", "expected"),
    [
        (["t4"], 1, 64, {}),
        (["t4"], 4, 64, {"hw_firmware_type": "uefi"}),
        (["t4"], 1, 1024, {"bits": "41"}),
        (["p100"], 1, 64, {"hw_firmware_type": "uefi"}),
        (["p100"], 1, 1000, {"hw_firmware_type": "uefi", "bits": "41"}),
        (["l4"], 1, 64, {"hw_firmware_type": "uefi", "bits": "41"}),
        (["h100"], 1, 256, {"hw_firmware_type": "uefi", "bits": "41"}),
        (["h100"], 8, 1024, {"hw_firmware_type": "uefi", "bits": "44"}),
        (["v100", "h100"], 8, 1024, {"hw_firmware_type": "uefi", "bits": "44"}),
        (["b300"], 8, 2048, {"hw_firmware_type": "uefi", "bits": "46"}),
        (["gh200"], 1, 512, {"hw_firmware_type": "uefi"}),
        (["h100"], 0, 64, {}),
        ([], 8, 64, {}),
    ],
)
def test_the_bars_ask_for_firmware_and_width(gpus: list[str], count: int, ram: int, expected: dict[str, str]) -> None:
    found = dict(placement(gpus, count, ram).properties)
    width = {"hw_maxphysaddr_mode": "emulate", "hw_maxphysaddr_bits": expected.get("bits", "")}
    assert found == {k: v for k, v in expected.items() if k != "bits"} | (width if "bits" in expected else {})


def test_what_the_bars_ask_for_is_right_by_our_own_rules() -> None:
    found = properties.derive(distribution="debian", version="13", architecture="amd64", gpu=True, packages=())
    assert properties.check(found | dict(placement(["b200"], 8, 2048).properties)) == []


def test_the_arithmetic_is_told() -> None:
    told = " ".join(placement(["h100"], 8, 1024).reasons)
    for part in (
        "8 × 128 GiB",
        "window of 2 TiB",
        "16 TiB with 44 bits",
        "QEMU's default of 40 bits",
        "fabric manager",
    ):
        assert part in told


def test_more_addresses_than_the_firmware_uses_are_told() -> None:
    assert "OVMF uses at most 46 bits: give the guest fewer GPUs or less RAM" in placement(["b300"], 16, 64).reasons


# --- Names ----------------------------------------------------------------------------------------------------------


def test_a_generation_stands_for_its_models() -> None:
    assert models_of("volta") == ("v100",)
    assert "h200" in models_of("hopper")
    assert "gh200" not in models_of("hopper")


def test_every_name_is_as_an_operator_would_write_it() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in known())
    assert all(re.fullmatch(r"[0-9a-f]{4}", device) for gpu in DATA["gpus"].values() for device in gpu["pci"])


def test_every_branch_that_a_source_has_is_described() -> None:
    offered = {
        branch
        for release in DATA["releases"].values()
        for branches in release.values()
        if isinstance(branches, list)
        for branch in branches
    }
    assert offered <= set(BRANCHES)


def test_every_toolkit_of_an_archive_is_described() -> None:
    assert {release["toolkit"] for release in DATA["releases"].values() if "toolkit" in release} <= set(TOOLKITS)


# --- inv gpus -------------------------------------------------------------------------------------------------------


def shown(capsys: pytest.CaptureFixture[str], only: str | None = None, count: int = 0, ram: str = "64GiB") -> Any:
    reports_gpus.gpus(only, str(count), ram, TODAY, as_json=True)
    return json.loads(capsys.readouterr().out)


def test_all_gpus_and_branches_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys)
    assert [gpu["name"] for gpu in found["gpus"]] == list(DATA["gpus"])
    assert [branch["branch"] for branch in found["branches"]] == list(BRANCHES)


def test_a_selection_may_name_models_generations_and_globs(capsys: pytest.CaptureFixture[str]) -> None:
    assert [gpu["name"] for gpu in shown(capsys, "h100,volta,gb*")["gpus"]] == ["h100", "v100", "gb200", "gb300"]


def test_the_placement_is_shown_for_a_count_and_ram(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, "h100", 8, "1TiB")["gpus"][0]["placement"]
    assert found["properties"]["hw_maxphysaddr_bits"] == "44"
    assert any("1024 GiB of RAM" in reason for reason in found["reasons"])


def test_the_task_prints_json_alone_and_warns_by_todays_date() -> None:
    argv = [sys.executable, "-m", "invoke", "--search-root", PROJECT, "gpus", "--only", "h100", "--json"]
    result = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(result.stdout)
    assert [gpu["name"] for gpu in found["gpus"]] == ["h100"]
    assert next(branch["warnings"] for branch in found["branches"] if branch["branch"] == 535)


def test_people_get_tables(capsys: pytest.CaptureFixture[str]) -> None:
    reports_gpus.gpus("v100", "2", "64GiB", TODAY, as_json=False)
    out = capsys.readouterr().out
    assert re.search(r"v100 .*1db1.* volta +7.0 +16/32 GiB +32 GiB +384–580 +proprietary +9.0–12", out)
    assert re.search(r"535 +LTS +2026-06-30 +12.2 .*past its end of life", out)
    assert re.search(r"v100 +hw_firmware_type=uefi hw_maxphysaddr_mode=emulate hw_maxphysaddr_bits=41", out)


def test_an_unknown_gpu_is_told_with_what_was_meant() -> None:
    with pytest.raises(CatalogError, match="there is no known GPU h1000") as caught:
        reports_gpus.gpus("h1000", "0", "64GiB", TODAY, as_json=True)
    assert caught.value.remedy == "Did you mean h100?"


@pytest.mark.parametrize("ram", ["512", "64GB", "0GiB", "", "512MiB"])
def test_an_amount_of_ram_has_a_unit(ram: str) -> None:
    with pytest.raises(UsageError, match=r"--ram .*: this is not a (valid size|whole number of GiB)"):
        reports_gpus.gpus(None, "1", ram, TODAY, as_json=True)


@pytest.mark.parametrize("count", ["-1", "many", ""])
def test_a_number_of_gpus_is_a_number(count: str) -> None:
    with pytest.raises(UsageError, match="is not a valid number of GPUs"):
        reports_gpus.gpus(None, count, "64GiB", TODAY, as_json=True)
