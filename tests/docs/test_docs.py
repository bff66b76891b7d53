"""Docs that cover every key, task, option and exit code, with links that lead somewhere."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from invoke import Collection
from invoke.tasks import Task

import tasks
from pipelines.util import errors
from tests.support.paths import PROJECT

DOCS = PROJECT / "docs"
PAGES = sorted([*PROJECT.glob("*.md"), *DOCS.rglob("*.md")])


def keys(schema: dict[str, Any]) -> set[str]:
    """Every key of images.yaml that its JSON Schema names."""
    return {key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", {})}


def all_tasks(collection: Collection) -> Iterator[tuple[str, "Task[object]"]]:
    for name in collection.task_names:
        yield name, collection[name]


@pytest.mark.parametrize("key", sorted(keys(json.loads((PROJECT / "images.schema.json").read_text()))))
def test_every_key_of_images_yaml_is_explained(key: str) -> None:
    assert f"`{key}`" in (DOCS / "reference/images-yaml.md").read_text()


@pytest.mark.parametrize(("name", "task"), list(all_tasks(tasks.namespace)), ids=str)
def test_every_task_and_option_is_explained(name: str, task: "Task[object]") -> None:
    rows = [line for line in (DOCS / "reference/tasks.md").read_text().splitlines() if line.startswith("|")]
    row = next((line for line in rows if re.search(rf"`{re.escape(name)}[ `]", line.split("|")[1])), None)
    assert row is not None, f"{name} is missing"
    for argument in task.get_arguments():
        if argument.positional:
            continue
        options = {f"--{'no-' if argument.default is True else ''}{each}" for each in argument.names if len(each) > 1}
        spelled = {option.replace("_", "-").rstrip("-") for option in options}
        assert any(re.search(rf"{each}\b", row) for each in spelled), f"{name}: {spelled} is missing"


def test_every_exit_code_is_explained() -> None:
    codes = {each.exit_code for each in vars(errors).values() if isinstance(each, type) and hasattr(each, "exit_code")}
    page = (DOCS / "reference/exit-codes.md").read_text()
    assert codes >= {1, 2, 3, 4, 5, 6}
    assert all(f"| {code} |" in page for code in {0, *codes, 7})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {title.lower().replace(" ", "-") for title in titles}, target


def test_every_page_is_reached_from_the_readme() -> None:
    reached, queue = set(), [PROJECT / "README.md"]
    while queue:
        page = queue.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        queue += [
            (page.parent / path).resolve()
            for path in re.findall(r"\]\(([^)#\s]+)", page.read_text())
            if "://" not in path
        ]
    assert {page for page in PAGES if page not in reached} == set()


def test_the_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_bytes()) <= 10_240


def test_code_names_only_pages_and_modules_that_exist() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    named = re.compile(r"\b((?:docs|pipelines|elements|tests|benchmarks)/[\w./-]+\.(?:md|py|yaml|rst))\b")
    wrong = [
        f"{file}: {path}"
        for file in files.split("\0")
        if file and file not in {"CHANGELOG.md", "docs/how-to/write-an-element.md"} and (PROJECT / file).is_file()
        for path in named.findall((PROJECT / file).read_text(errors="replace"))
        if not (PROJECT / path).exists()
    ]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_page_has_a_gap_that_was_to_be_filled(page: Path) -> None:
    assert re.findall(r"(?<!`)@[A-Z]+@|TODO|FIXME", page.read_text()) == []
