"""What do the files of a CI system say?

Templates are in ci_templates/, with the comments that their readers need; `@@{name}` is where a value goes. All values
are plain words (ci_wish.py), or JSON, which is YAML.
"""

import json
import shlex
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from pipelines.ci.options import System, Wish

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


def of(wish: Wish) -> dict[str, str]:
    """Path → content of each file, paths relative to the project (systemd: to a folder for units)."""
    return _FILES[wish.system](wish)


def common(wish: Wish) -> dict[str, str]:
    """What several templates ask for."""
    return {
        "again": wish.again,
        "clouds": shlex.join(wish.on_clouds),
        "limit": wish.cache_limit,
        "catalog": shlex.join(("--catalog", wish.catalog)) if wish.catalog else "",
    }


def flow(value: object) -> str:
    """A value as YAML takes it on one line."""
    return json.dumps(value)


def block(value: object, indent: int) -> str:
    """A value as YAML in lines, each but the first indented so far."""
    dumped = yaml.dump(value, Dumper=_Indented, sort_keys=False, width=120, default_flow_style=False)
    return dumped.rstrip("\n").replace("\n", "\n" + " " * indent)


def _github(wish: Wish) -> dict[str, str]:
    labels: str | Sequence[str] = wish.runner or _HOSTED
    values = {
        "cron": flow(wish.schedule),
        "runner": labels if isinstance(labels, str) else flow(labels),
        "secrets": _exports(wish.secrets, "${{ secrets.%s }}"),
        "keys": _exports(wish.keys, "${{ secrets.%s }}"),
    }
    return {".github/workflows/refresh.yaml": _tidy(render("github.yaml.in", common(wish) | values))}


def _gitlab(wish: Wish) -> dict[str, str]:
    return {".gitlab-ci.yml": _tidy(render("gitlab.yaml.in", gitlab_values(wish)))}


def gitlab_values(wish: Wish) -> dict[str, str]:
    """What both of GitLab's templates ask for."""
    return common(wish) | {"tags": f"\n  tags: {flow(wish.runner)}" if wish.runner else ""}


def _zuul(wish: Wish) -> dict[str, str]:
    jobs = [f"gpu-images-refresh-{name}" for name in wish.variants]
    values = common(wish) | {
        "nodeset": f"\n    nodeset: {{nodes: [{{name: builder, label: {wish.runner[0]}}}]}}" if wish.runner else "",
        "periodic": block(jobs, 8),
        "jobs": "\n".join(_zuul_job(name) for name in wish.variants),
        "refresh": block(_zuul_refresh(wish), 14),
        "check": block([*shlex.split(wish.again), "--check"], 10),
        "secrets": _exports((*wish.secrets, *wish.keys), '"{{ gpu_image_secrets.%s }}"', 12),
    }
    return {
        ".zuul.d/gpu-images-refresh.yaml": _tidy(render("zuul.yaml.in", values)),
        **{
            f"{_ZUUL}/{name}.yaml": _tidy(render(f"zuul-{name}.yaml.in", values))
            for name in ("refresh", "logs", "drift")
        },
    }


def _zuul_refresh(wish: Wish) -> list[str]:
    places = ("--builds", "{{ work }}/builds", "--summary", "{{ work }}/{{ gpu_image_variant }}.md")
    return ["./inv", "refresh", "--only", "{{ gpu_image_variant }}", *wish.on_clouds, *places]


def _zuul_job(name: str) -> str:
    guard = f"gpu-image-{name}"
    job = {
        "name": f"gpu-images-refresh-{name}",
        "parent": "gpu-images-refresh",
        "semaphores": [guard],
        "vars": {"gpu_image_variant": name},
    }
    return block([{"semaphore": {"name": guard, "max": 1}}, {"job": job}], 0) + "\n"


def _systemd(wish: Wish) -> dict[str, str]:
    values = common(wish) | {
        "schedule": wish.schedule,
        "project": wish.project,
        "secrets": "\nEnvironmentFile=/etc/gpu-images/environment" if wish.secrets or wish.keys else "",
    }
    names = ("service", "timer")
    return {f"gpu-images-refresh.{name}": _tidy(render(f"systemd.{name}.in", values)) for name in names}


def _exports(names: Sequence[str], value: str, indent: int = 10) -> str:
    """Further lines of an `env:`; `value` has %s where the name goes."""
    return "".join(f"\n{' ' * indent}{name}: {value % name}" for name in names)


def _tidy(text: str) -> str:
    """Without spaces where a value was empty."""
    return "".join(f"{line.rstrip()}\n" for line in text.rstrip("\n").split("\n"))


_FILES: Mapping[System, Callable[[Wish], dict[str, str]]] = {
    "github": _github,
    "gitlab": _gitlab,
    "zuul": _zuul,
    "systemd": _systemd,
}
