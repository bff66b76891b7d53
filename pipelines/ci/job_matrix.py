"""Jobs of one run of a CI system, for its first job: one for each image that the plan names.

So a new image in images.yaml gets its job without an edit of the CI system's files.
"""

import json
from datetime import datetime, timedelta
from pathlib import Path

from pipelines.ci import render
from pipelines.ci.options import Request
from pipelines.util.errors import UsageError

_LOGS = ("build.log", "manifest.json", "sbom.cdx.json", "state.json", "verify.json")


def of(request: Request, plan: Path | None, now: datetime) -> str:
    """The jobs as the CI system takes them: outputs of a step for GitHub, a child pipeline for GitLab.

    `plan` is the output of `inv plan --json`; None means all images.
    """
    variants = request.variants if plan is None else _planned(request, plan)
    if request.system == "github":
        return f"variants={json.dumps(variants)}\nweek={_week(now)}"
    if request.system == "gitlab":
        return _child(request, variants, now)
    raise UsageError(f"the jobs of {request.system} are written in its files", remedy="Leave --jobs out.")


def _planned(request: Request, plan: Path) -> tuple[str, ...]:
    """The images that have something to do, in the catalog's order."""
    try:
        named = {action["variant"] for action in json.loads(plan.read_bytes())}
    except (OSError, ValueError, TypeError, KeyError) as error:
        what = f"{plan} is not a plan: {type(error).__name__} {error}"
        raise UsageError(what, remedy="Write it with `./inv plan --json`.") from error
    return tuple(name for name in request.variants if name in named)


def _child(request: Request, variants: tuple[str, ...], now: datetime) -> str:
    """The child pipeline. GitLab refuses one without a job: with nothing to do, it has a job that prints so."""
    jobs: dict[str, object] = {f"refresh {name}": _gitlab_job(name, now) for name in variants}
    nothing = {"nothing to do": {"stage": "refresh", "before_script": [], "script": ["echo 'Nothing to do.'"]}}
    text = render.render("gitlab-child.yaml.in", render.gitlab_values(request))
    return f"{text}\n{render.block(jobs or nothing, 0)}"


def _gitlab_job(name: str, now: datetime) -> dict[str, object]:
    """The job of one image: never two at once (resource_group), with the cache of this week or the last."""
    key, before = (f"layers_{name}_{_week(moment)}" for moment in (now, now - timedelta(weeks=1)))
    return {
        "extends": ".refresh",
        "variables": {"VARIANT": name},
        "resource_group": f"gpu-image-{name}",
        "cache": [
            {"key": key, "fallback_keys": [before], "paths": ["builds/.cache"]},
            {"key": {"files": ["requirements/run.txt"]}, "paths": [".pip-cache"]},
        ],
        "artifacts": {
            "name": name,
            "when": "always",
            "expire_in": "30 days",
            "paths": ["summary.md", *(f"builds/*/*/{log}" for log in _LOGS)],
        },
    }


def _week(now: datetime) -> str:
    return f"{now:%G-W%V}"
