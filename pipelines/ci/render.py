"""Content of the files of a CI system.

Templates are in templates/, with the comments that their readers need; `@@{name}` is the place of a value. All values
are plain words (options.py), or JSON, which is valid YAML.
"""

import json
import shlex
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from pipelines.ci.options import Request, System

_TEMPLATES = Path(__file__).parent / "templates"
_HOSTED = "ubuntu-24.04"  # GitHub's own: root by sudo, KVM, an mke2fs that is new enough
_ZUUL = "playbooks/gpu-images-refresh"


class _Template(string.Template):
    """`${{ … }}` is GitHub's, `{{ … }}` Ansible's, `$…` the shell's, `%…` systemd's."""

    delimiter = "@@"


class _Indented(yaml.SafeDumper):
    """Lists indented in mappings, as the templates have them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002  # PyYAML's name
        super().increase_indent(flow, indentless=False)


def render(template: str, values: Mapping[str, str]) -> str:
    """A template with its values; KeyError for one that is missing."""
    return _Template((_TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)


def of(request: Request) -> dict[str, str]:
    """Path → content of each file, paths relative to the project (systemd: to a folder for units)."""
    return _FILES[request.system](request)


def common(request: Request) -> dict[str, str]:
    """Values of several templates."""
    return {
        "again": request.again,
        "clouds": shlex.join(request.on_clouds),
        "limit": request.cache_limit,
        "catalog": shlex.join(("--catalog", request.catalog)) if request.catalog else "",
    }


def flow(value: object) -> str:
    """A value as YAML on one line."""
    return json.dumps(value)


def block(value: object, indent: int) -> str:
    """A value as YAML in lines, each but the first indented by `indent`."""
    dumped = yaml.dump(value, Dumper=_Indented, sort_keys=False, width=120, default_flow_style=False)
    return dumped.rstrip("\n").replace("\n", "\n" + " " * indent)


def _github(request: Request) -> dict[str, str]:
    labels: str | Sequence[str] = request.runner or _HOSTED
    values = {
        "cron": flow(request.schedule),
        "runner": labels if isinstance(labels, str) else flow(labels),
        "secrets": _exports(request.secrets, "${{ secrets.%s }}"),
        "keys": _exports(request.keys, "${{ secrets.%s }}"),
    }
    return {".github/workflows/refresh.yaml": _tidy(render("github.yaml.in", common(request) | values))}


def _gitlab(request: Request) -> dict[str, str]:
    return {".gitlab-ci.yml": _tidy(render("gitlab.yaml.in", gitlab_values(request)))}


def gitlab_values(request: Request) -> dict[str, str]:
    """Values of both templates for GitLab."""
    return common(request) | {"tags": f"\n  tags: {flow(request.runner)}" if request.runner else ""}


def _zuul(request: Request) -> dict[str, str]:
    jobs = [f"gpu-images-refresh-{name}" for name in request.variants]
    values = common(request) | {
        "nodeset": f"\n    nodeset: {{nodes: [{{name: builder, label: {request.runner[0]}}}]}}"
        if request.runner
        else "",
        "periodic": block(jobs, 8),
        "jobs": "\n".join(_zuul_job(name) for name in request.variants),
        "refresh": block(_zuul_refresh(request), 14),
        "check": block([*shlex.split(request.again), "--check"], 10),
        "secrets": _exports((*request.secrets, *request.keys), '"{{ gpu_image_secrets.%s }}"', 12),
    }
    return {
        ".zuul.d/gpu-images-refresh.yaml": _tidy(render("zuul.yaml.in", values)),
        **{
            f"{_ZUUL}/{name}.yaml": _tidy(render(f"zuul-{name}.yaml.in", values))
            for name in ("refresh", "logs", "drift")
        },
    }


def _zuul_refresh(request: Request) -> list[str]:
    places = ("--builds", "{{ work }}/builds", "--summary", "{{ work }}/{{ gpu_image_variant }}.md")
    return ["./inv", "refresh", "--only", "{{ gpu_image_variant }}", *request.on_clouds, *places]


def _zuul_job(name: str) -> str:
    guard = f"gpu-image-{name}"
    job = {
        "name": f"gpu-images-refresh-{name}",
        "parent": "gpu-images-refresh",
        "semaphores": [guard],
        "vars": {"gpu_image_variant": name},
    }
    return block([{"semaphore": {"name": guard, "max": 1}}, {"job": job}], 0) + "\n"


def _systemd(request: Request) -> dict[str, str]:
    values = common(request) | {
        "schedule": request.schedule,
        "project": request.project,
        "secrets": "\nEnvironmentFile=/etc/gpu-images/environment" if request.secrets or request.keys else "",
    }
    names = ("service", "timer")
    return {f"gpu-images-refresh.{name}": _tidy(render(f"systemd.{name}.in", values)) for name in names}


def _exports(names: Sequence[str], value: str, indent: int = 10) -> str:
    """Further lines of an `env:`; `value` has %s where the name goes."""
    return "".join(f"\n{' ' * indent}{name}: {value % name}" for name in names)


def _tidy(text: str) -> str:
    """The text without spaces at the ends of lines, where a value was empty."""
    return "".join(f"{line.rstrip()}\n" for line in text.rstrip("\n").split("\n"))


_FILES: Mapping[System, Callable[[Request], dict[str, str]]] = {
    "github": _github,
    "gitlab": _gitlab,
    "zuul": _zuul,
    "systemd": _systemd,
}
