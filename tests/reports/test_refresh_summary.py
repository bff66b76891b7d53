"""The summary of a CI job has what was done, what failed and what is new, whatever characters are in it."""

import dataclasses
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from pipelines.reports.refresh_summary import NOT_REACHED, Row, markdown, written
from pipelines.util.errors import BuildError, HostError

RELEASED = Row(
    variant="debian-cuda",
    cloud="prod",
    action="built, released",
    reason="libc6 2.41-12 → 2.41-13",
    build_id="20261122T120000Z-0123abcd",
    image_id="6f1d2c6e-0000-4000-8000-000000000001",
    packages=("libc6 2.41-12 → 2.41-13", "zlib1g 1 → 2"),
    driver="550.163.01 → 550.170.02",
    seconds={"build": 250.4, "upload": 40},
)


def row_of(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_release_has_its_reason_ids_and_times() -> None:
    text = markdown([RELEASED])
    assert text.startswith("## GPU images: 1 image on 1 cloud, all well\n")
    assert row_of(text, "debian-cuda") == [
        "debian-cuda",
        "prod",
        "built, released",
        "libc6 2.41-12 → 2.41-13",
        "`20261122T120000Z-0123abcd`",
        "`6f1d2c6e-0000-4000-8000-000000000001`",
        "4:50 (build 4:10, upload 0:40)",
    ]


def test_what_is_new_in_a_build_is_listed_once_for_all_clouds() -> None:
    text = markdown([RELEASED, dataclasses.replace(RELEASED, cloud="test")])
    assert text.count("what has changed") == 1
    assert "<details><summary>2 packages</summary>" in text


def test_nothing_to_do_is_a_summary_too() -> None:
    assert markdown([]) == "## GPU images: nothing to do\n"


def test_a_failure_is_in_the_heading_and_has_its_error_below() -> None:
    failed = Row(variant="ubuntu-cuda", cloud="prod", action="failed", error="Glance refused\nremedy: ask for quota")
    text = markdown([RELEASED, failed])
    assert text.startswith("## GPU images: 2 images on 1 cloud, 1 failed (ubuntu-cuda)\n")
    assert "### ubuntu-cuda on prod failed\n\n```text\nGlance refused\nremedy: ask for quota\n```\n" in text


def test_what_was_never_reached_is_in_the_heading() -> None:
    text = markdown([RELEASED, Row(variant="plain", action=NOT_REACHED)])
    assert text.startswith("## GPU images: 2 images on 1 cloud, 1 not reached\n")


def test_a_summary_that_cannot_be_written_is_an_error_before_the_work(tmp_path: Path) -> None:
    started = []
    with pytest.raises(HostError, match="cannot write"), written(tmp_path / "none" / "summary.md", lambda: []):
        started.append(True)
    assert started == []


def test_the_error_of_the_work_stays_when_the_summary_cannot_be_written_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "summary.md"

    def work() -> None:
        with written(path, lambda: []):
            path.unlink()
            path.mkdir()
            raise BuildError("no space")

    with pytest.raises(BuildError, match="no space"):
        work()
    assert "cannot write" in capsys.readouterr().err


def test_a_long_error_is_shown_from_its_end() -> None:
    output = "\n".join(f"line {number}" for number in range(100))
    text = markdown([Row(variant="plain", action="failed", error=output)])
    assert "…\nline 60\n" in text
    assert "line 59" not in text


def test_no_text_becomes_markup_or_ends_its_cell_or_its_block() -> None:
    nasty = "a|b <script>x</script> `c` [d](e) **f**\n| g"
    row = Row(
        variant="plain",
        cloud=nasty,
        action=nasty,
        reason=nasty,
        build_id=nasty,
        packages=(nasty,),
        error=f"```\n{nasty}",
    )
    page = MarkdownIt("gfm-like", {"linkify": False}).enable("table").render(markdown([row]))
    assert (page.count("<tr>"), page.count("<td>")) == (2, 7)
    assert "<script>" not in page
    assert ("<a " in page, page.count("<strong>"), page.count("<pre>")) == (False, 1, 1)
