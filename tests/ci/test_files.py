"""Generated pipelines are what their systems accept and what images.yaml asks for, and safe with its secrets."""

import functools
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipelines.catalog import loader
from pipelines.ci import files as ci_files
from pipelines.ci import job_matrix, render
from pipelines.ci import options as ci_options
from pipelines.ci.options import Request
from pipelines.util.errors import UsageError
from tests.support.paths import PROJECT

PROGRAMS = Path(sys.executable).parent
NOW = datetime(2026, 1, 1, 3, tzinfo=UTC)  # in the first ISO week of 2026
IMAGES = """\
version: 1
images:
  plain:
    disk: {size: 4GiB}
    base: {distribution: debian, release: trixie}
  signed:
    disk: {size: 4GiB}
    base: {distribution: debian, release: trixie}
    driver: {source: archive, modules: proprietary}
    secrets:
      module-signing-key: {env: MODULES_KEY}
      module-signing-certificate: {env: MODULES_CERTIFICATE}
"""
SYSTEMS = ("github", "gitlab", "zuul", "systemd")


@functools.cache
def offered(images: str) -> loader.Catalog:
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(images)
        file.flush()
        return loader.load(Path(file.name))


def asked(system: str, *, images: str = IMAGES, **options: Any) -> Request:
    given = {"clouds": ["prod", "test"], "project": PROJECT} | options
    return ci_options.request(offered(images), system, given.pop("clouds"), **given)


def written(folder: Path, system: str, **options: Any) -> Path:
    ci_files.write(asked(system, **options), folder)
    return folder


def images_file(folder: Path) -> Path:
    path = folder / "images.yaml"
    path.write_text(IMAGES)
    return path


def run(*argv: str | Path, cwd: Path | None = None, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, cwd=cwd, input=stdin, capture_output=True, text=True, check=False, timeout=60)


def complaints(*argv: str | Path, cwd: Path | None = None, stdin: str = "") -> str:
    done = run(*argv, cwd=cwd, stdin=stdin)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def github(folder: Path, **options: Any) -> Any:
    return loaded(written(folder, "github", **options) / ".github/workflows/refresh.yaml")


def child(folder: Path, planned: Sequence[str] | None = None, **options: Any) -> str:
    return job_matrix.of(asked("gitlab", **options), None if planned is None else plan(folder, planned), NOW)


def plan(folder: Path, variants: Sequence[str]) -> Path:
    path = folder / "plan.json"
    actions = [{"verb": verb, "variant": name, "cloud": None} for name in variants for verb in ("build", "upload")]
    path.write_text(json.dumps(actions))
    return path


# What the systems' makers say


def test_github_takes_the_workflow(tmp_path: Path) -> None:
    written(tmp_path, "github", runner=["self-hosted", "kvm"], secret=["AWS_SECRET_ACCESS_KEY"])
    file = tmp_path / ".github/workflows/refresh.yaml"
    assert complaints(PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", file) == ""


def test_the_workflow_has_no_known_weakness(tmp_path: Path) -> None:
    written(tmp_path, "github", secret=["AWS_SECRET_ACCESS_KEY"])
    assert complaints(PROGRAMS / "zizmor", "--offline", "--no-progress", "--quiet", tmp_path / ".github") == ""


def test_gitlab_takes_the_pipeline_and_the_child_that_a_run_makes(tmp_path: Path) -> None:
    written(tmp_path, "gitlab", runner=["kvm"])
    jobs = yaml.safe_load(child(tmp_path))
    # The schema looks into no hidden job; so what they extend is put into those that do.
    inherited = jobs.pop(".refresh")
    for job in jobs.values():
        if isinstance(job, dict) and job.pop("extends", None):
            job.update(inherited)
    (tmp_path / "child.yaml").write_text(yaml.safe_dump(jobs))
    (tmp_path / "empty.yaml").write_text(child(tmp_path, ()))
    files = [tmp_path / name for name in (".gitlab-ci.yml", "child.yaml", "empty.yaml")]
    assert complaints(PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", *files) == ""


def test_zuul_takes_the_configuration(tmp_path: Path) -> None:
    written(tmp_path, "zuul", runner=["gpu-builder"])
    schema = loaded(PROJECT / "tests/ci/zuul.schema.yaml")
    jsonschema.validate(loaded(tmp_path / ".zuul.d/gpu-images-refresh.yaml"), schema)


def test_zuul_finds_every_playbook_secret_and_semaphore_that_is_named(tmp_path: Path) -> None:
    items = loaded(written(tmp_path, "zuul") / ".zuul.d/gpu-images-refresh.yaml")
    jobs = {item["job"]["name"]: item["job"] for item in items if "job" in item}
    guards = {item["semaphore"]["name"] for item in items if "semaphore" in item}
    (project,) = [item["project"] for item in items if "project" in item]
    playbooks = {job[key] for job in jobs.values() for key in ("run", "post-run") if key in job}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.glob("playbooks/*/*.yaml")} == playbooks
    assert {guard for job in jobs.values() for guard in job.get("semaphores", ())} == guards
    assert {name for pipeline in project.values() for name in pipeline["jobs"]} == set(jobs) - {"gpu-images-refresh"}


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    written(tmp_path, "systemd", schedule="Mon..Fri 04:05")
    units = [tmp_path / f"gpu-images-refresh.{kind}" for kind in ("service", "timer")]
    assert complaints("systemd-analyze", "verify", "--man=no", *units) == ""


def test_yamllint_has_nothing_to_say_of_any_file(tmp_path: Path) -> None:
    for system in SYSTEMS:
        written(tmp_path, system, runner=["gpu-builder"] if system != "systemd" else ())
    files = [path for pattern in ("**/*.yaml", "**/*.yml") for path in tmp_path.glob(pattern)]
    (tmp_path / "child.yaml").write_text(f"{child(tmp_path)}\n")
    linted = complaints(PROGRAMS / "yamllint", "--strict", *files, tmp_path / "child.yaml", cwd=PROJECT)
    assert (len(files), linted) == (6, "")


def scripts(folder: Path) -> Iterator[str]:
    for job in github(folder)["jobs"].values():
        yield from (step["run"] for step in job["steps"] if "run" in step)
    parent = loaded(written(folder, "gitlab") / ".gitlab-ci.yml")
    for job in (*parent.values(), *yaml.safe_load(child(folder)).values()):
        if isinstance(job, dict):
            yield from (line for key in ("script", "after_script") for line in job.get(key, ()))


def test_shellcheck_has_nothing_to_say_of_the_shell_within(tmp_path: Path) -> None:
    found = list(scripts(tmp_path))
    # Each in a shell of its own, as the systems run them; what the systems set is lent to them.
    functions = "".join(f"part_{number}() (\n{text}\n)\npart_{number}\n" for number, text in enumerate(found))
    assert len(found) == 14
    assert complaints("shellcheck", "--shell", "bash", "-", stdin=functions) == ""


def commands(folder: Path) -> Iterator[list[str]]:
    """What the systems call of ours, with the arguments that are known when files are written."""
    for script in scripts(folder):
        for line in script.replace('"$@"', "").splitlines():
            if "./inv " in line:
                yield shlex.split(re.split(r"[;>]", line.partition("./inv ")[2])[0])
    for name in ("refresh", "drift"):
        (play,) = loaded(written(folder, "zuul") / f"playbooks/gpu-images-refresh/{name}.yaml")
        tasks = [task for outer in play["tasks"] for task in outer.get("block", [outer])]
        yield from (task["ansible.builtin.command"]["argv"][1:] for task in tasks if "ansible.builtin.command" in task)
    service = (written(folder, "systemd") / "gpu-images-refresh.service").read_text()
    yield shlex.split(re.findall("ExecStart=(.*)", service)[0])[1:]


def test_every_command_is_one_of_ours_with_options_that_it_has(tmp_path: Path) -> None:
    from pipelines.cli.program import Application
    from tasks import namespace

    program = Application(namespace=namespace, name="inv", binary="./inv")
    program.create_config()
    named = []
    for words in commands(tmp_path):
        program.parse_core(["inv", *words])
        named += [context.name for context in program.tasks]
    assert sorted(named) == sorted(["plan", "ci", "ci"] * 2 + ["cache", "refresh"] * 3 + ["ci", "refresh"])


# What images.yaml asks for


@pytest.mark.parametrize("system", ["github", "gitlab", "systemd"])
def test_a_new_image_needs_no_edit_where_a_run_asks_what_there_is_to_do(tmp_path: Path, system: str) -> None:
    written(tmp_path, system)
    request = asked(system, images=f"{IMAGES}  another: {{parent: plain}}\n")
    assert ci_files.differing(request, tmp_path) == []


def test_a_new_image_is_drift_where_jobs_are_written_down(tmp_path: Path) -> None:
    written(tmp_path, "zuul")
    request = asked("zuul", images=f"{IMAGES}  another: {{parent: plain}}\n")
    assert ci_files.differing(request, tmp_path) == [".zuul.d/gpu-images-refresh.yaml"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_was_written_is_no_drift_and_is_not_written_again(tmp_path: Path, system: str) -> None:
    folder = written(tmp_path, system)
    files = [path for path in folder.rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    written(tmp_path, system)
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert ci_files.check(asked(system), folder)


def test_check_is_exit_7_and_names_each_file_that_is_wrong_or_missing(tmp_path: Path) -> None:
    images = str(images_file(tmp_path))
    written(tmp_path, "zuul", catalog_path=images)
    (tmp_path / "playbooks/gpu-images-refresh/logs.yaml").write_text("edited by hand")
    (tmp_path / "playbooks/gpu-images-refresh/drift.yaml").unlink()
    options = ("--cloud", "prod", "--cloud", "test", "--catalog", images)
    invoke = (sys.executable, "-m", "invoke", "--search-root", PROJECT)
    checked = run(*invoke, "ci", "--for", "zuul", *options, "--check", "--output", tmp_path)
    named = re.findall(r"\S+/(\S+\.yaml) (is \w+)", checked.stderr)
    assert (checked.returncode, named) == (7, [("logs.yaml", "is not"), ("drift.yaml", "is missing")])
    (remedy,) = {line.partition("write it with: ")[2] for line in checked.stderr.splitlines()}
    assert run(*invoke, *shlex.split(remedy)[1:]).returncode == 0
    assert ci_files.check(asked("zuul", catalog_path=images), tmp_path)


def test_github_has_a_job_for_each_image_of_the_plan(tmp_path: Path) -> None:
    request = asked("github")
    assert job_matrix.of(request, plan(tmp_path, ["signed"]), NOW) == 'variants=["signed"]\nweek=2026-W01'
    assert job_matrix.of(request, plan(tmp_path, []), NOW) == "variants=[]\nweek=2026-W01"
    assert job_matrix.of(request, None, NOW) == 'variants=["plain", "signed"]\nweek=2026-W01'


def test_gitlab_has_a_job_for_each_image_of_the_plan_and_never_two_of_one_at_once(tmp_path: Path) -> None:
    jobs = yaml.safe_load(child(tmp_path, ["signed"]))
    job = jobs["refresh signed"]
    assert "refresh plain" not in jobs
    assert (job["variables"], job["resource_group"]) == ({"VARIANT": "signed"}, "gpu-image-signed")
    assert job["cache"][0]["key"] == "layers_signed_2026-W01"
    assert job["cache"][0]["fallback_keys"] == ["layers_signed_2025-W52"]


def test_gitlab_puts_no_variable_of_the_parent_in_place_of_the_childs(tmp_path: Path) -> None:
    parent, jobs = loaded(written(tmp_path, "gitlab") / ".gitlab-ci.yml"), yaml.safe_load(child(tmp_path))
    (trigger,) = [job for job in parent.values() if isinstance(job, dict) and "trigger" in job]
    assert (trigger["inherit"]["variables"], "variables" in trigger) == (False, False)
    assert jobs["variables"] == parent["variables"]


def test_the_jobs_are_those_of_a_plan_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"variant": "signed"}')
    with pytest.raises(UsageError, match="is not a plan"):
        job_matrix.of(asked("github"), tmp_path / "plan.json", NOW)


def test_every_image_has_a_job_when_a_cloud_does_not_answer(tmp_path: Path) -> None:
    images = images_file(tmp_path)
    where = "auth: {auth_url: 'http://127.0.0.1:9', username: u, password: p, project_name: p}"
    (tmp_path / "clouds.yaml").write_text(f"clouds:\n  prod: {{{where}}}\n")
    steps = github(tmp_path, clouds=["prod"], catalog_path=str(images))["jobs"]["plan"]["steps"]
    (script,) = [step["run"] for step in steps if step.get("id") == "jobs"]
    inv = tmp_path / "inv"
    inv.write_text(f'#!/bin/sh\nexec {sys.executable} -m invoke --search-root {PROJECT} "$@"\n')
    inv.chmod(0o755)
    environment = {"RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": str(tmp_path / "output")}
    done = step(script, tmp_path, environment | {"OS_CLIENT_CONFIG_FILE": str(tmp_path / "clouds.yaml")})
    assert (done.returncode, "::warning::" in done.stdout) == (0, True)
    assert (tmp_path / "output").read_text().startswith('variants=["plain", "signed"]\n')


# Secrets


def step(script: str, cwd: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run as GitHub does."""
    argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    values = os.environ | environment
    return subprocess.run(argv, cwd=cwd, env=values, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("job", ["plan", "refresh"])
def test_github_writes_the_credentials_for_their_owner_alone_and_shows_nothing(tmp_path: Path, job: str) -> None:
    scripts = [part["run"] for part in github(tmp_path)["jobs"][job]["steps"] if "CLOUDS_YAML" in part.get("env", ())]
    content = "clouds:\n  prod: {auth: {password: 'hun%ter2'}}"
    (script,) = scripts
    done = step(script, tmp_path, {"RUNNER_TEMP": str(tmp_path), "CLOUDS_YAML": content})
    file = tmp_path / "clouds.yaml"
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (f"{content}\n", 0o600)
    assert (done.stdout, done.stderr) == ("", "")


def test_github_reports_which_secret_is_missing_before_it_asks_a_cloud(tmp_path: Path) -> None:
    steps = github(tmp_path)["jobs"]["plan"]["steps"]
    (script,) = [part["run"] for part in steps if "CLOUDS_YAML" in part.get("env", ())]
    done = step(script, tmp_path, {"RUNNER_TEMP": str(tmp_path), "CLOUDS_YAML": ""})
    assert (done.returncode, "no secret CLOUDS_YAML" in done.stdout) == (1, True)


def test_keys_for_modules_reach_builds_and_not_the_plan(tmp_path: Path) -> None:
    jobs = github(tmp_path, secret=["RECORDS_TOKEN"])["jobs"]
    given = {name: {key for part in job["steps"] for key in part.get("env", ())} for name, job in jobs.items()}
    assert given["refresh"] - given["plan"] == {"MODULES_KEY", "MODULES_CERTIFICATE", "VARIANT"}
    assert "RECORDS_TOKEN" in given["plan"]
    assert given["drift"] == set()


def test_zuul_shows_no_task_that_has_a_secret_as_its_argument(tmp_path: Path) -> None:
    (play,) = loaded(written(tmp_path, "zuul") / "playbooks/gpu-images-refresh/refresh.yaml")
    tasks = [task for outer in play["tasks"] for task in outer.get("block", [outer])]
    told = [task for task in tasks if "gpu_image_secrets" in str({**task, "environment": None})]
    assert [task["no_log"] for task in told] == [True]
    assert "gpu_image_secrets.MODULES_KEY" in tasks[-1]["environment"]["MODULES_KEY"]


# Words that would mean something else


@pytest.mark.parametrize("cloud", ["$(id)", "a b", "${{ secrets.X }}", "--force", "a\nb", "{{ x }}", "%n", "a'b", ""])
@pytest.mark.parametrize("system", ["github", "systemd"])
def test_a_cloud_whose_name_means_something_to_a_shell_or_to_yaml_is_refused(system: str, cloud: str) -> None:
    with pytest.raises(UsageError, match="is not a safe value for cloud"):
        asked(system, clouds=[cloud])


@pytest.mark.parametrize("name", ["1.5", "null", "on", "1e3", "2026-01-01"])
def test_a_name_that_yaml_would_take_for_something_else_stays_a_name(tmp_path: Path, name: str) -> None:
    images = IMAGES.replace("  plain:", f"  '{name}':")
    jobs = yaml.safe_load(child(tmp_path, images=images))
    zuul = yaml.safe_load(render.of(asked("zuul", images=images))[".zuul.d/gpu-images-refresh.yaml"])
    variables, _ = [item["job"]["vars"] for item in zuul if "vars" in item.get("job", ())]
    assert jobs[f"refresh {name}"]["variables"] == {"VARIANT": name}
    assert variables == {"gpu_image_variant": name}


@pytest.mark.parametrize(
    ("system", "options", "message"),
    [
        ("jenkins", {}, "jenkins is not a supported CI system"),
        ("github", {"clouds": []}, "no cloud is given"),
        ("github", {"schedule": "every night"}, "for schedule of github"),
        ("github", {"schedule": "1 2 3 4"}, "for schedule of github"),
        ("github", {"cache_limit": "much"}, "--cache-limit much"),
        ("github", {"secret": ["lower"]}, "'lower' is not a safe value for secret"),
        ("github", {"runner": ["a]"]}, "'a]' is not a safe value for runner"),
        ("gitlab", {"schedule": "1 2 * * *"}, "gitlab has no schedule"),
        ("zuul", {"schedule": "1 2 * * *"}, "zuul has no schedule"),
        ("zuul", {"runner": ["a", "b"]}, "one label"),
        ("systemd", {"runner": ["a"]}, "no runner"),
        ("systemd", {"project": Path("/with'quote")}, "project's folder"),
    ],
)
def test_what_no_file_could_hold_safely_is_refused(system: str, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        asked(system, **options)


def test_a_time_that_systemd_does_not_know_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a valid time for systemd"):
        written(tmp_path, "systemd", schedule="Moonday 25:00")
    assert list(tmp_path.iterdir()) == []
