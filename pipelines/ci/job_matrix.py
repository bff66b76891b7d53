"""Which jobs does one run of a CI system have?

Asked by the first job of a run: one for each image that the plan names, so that a new image in images.yaml has its job
without an edit anywhere.
"""

import json
from datetime import datetime, timedelta
from pathlib import Path

from pipelines.ci import render
from pipelines.ci.options import Wish
from pipelines.util.errors import UsageError

_LOGS = ("build.log", "manifest.json", "sbom.cdx.json", "state.json", "verify.json")


def of(wish: Wish, plan: Path | None, now: datetime) -> str:
    """The jobs as the CI system takes them: outputs of a step for GitHub, a child pipeline for GitLab.

    `plan` is what `inv plan --json` said; None means all images.
    """
    variants = wish.variants if plan is None else _planned(wish, plan)
    if wish.system == "github":
        return f"variants={json.dumps(variants)}\nweek={_week(now)}"
    if wish.system == "gitlab":
        return _child(wish, variants, now)
    raise UsageError(f"the jobs of {wish.system} are in its files", remedy="Leave --jobs out.")


def _planned(wish: Wish, plan: Path) -> tuple[str, ...]:
    """The images that have something to do, in the catalog's order."""
    try:
        named = {action["variant"] for action in json.loads(plan.read_bytes())}
    except (OSError, ValueError, TypeError, KeyError) as error:
        what = f"{plan} is no plan: {type(error).__name__} {error}"
        raise UsageError(what, remedy="Write it with `./inv plan --json`.") from error
    return tuple(name for name in wish.variants if name in named)


def _child(wish: Wish, variants: tuple[str, ...], now: datetime) -> str:
    """A pipeline without a job would be an error of GitLab's, so that one says that there is nothing to do."""
    jobs: dict[str, object] = {f"refresh {name}": _gitlab_job(name, now) for name in variants}
    nothing = {"nothing to do": {"stage": "refresh", "before_script": [], "script": ["echo 'Nothing to do.'"]}}
    text = render.render("gitlab-child.yaml.in", render.gitlab_values(wish))
    return f"{text}\n{render.block(jobs or nothing, 0)}"


def _gitlab_job(name: str, now: datetime) -> dict[str, object]:
    """Never two of one image at once (resource_group), and what was kept in this week, or in the last."""
    key, before = (f"layers_{name}_{_week(moment)}" for moment in (now, now - timedelta(weeks=1)))
    return {
        "extends": ".refresh",
        "variables": {"VARIANT": name},
        "resource_group": f"gpu-image-{name}",
        "cache": [
            {"key": key, "fallback_keys": [before], "paths": ["builds/.cache"]},
            {"key": {"files": ["constraints.txt"]}, "paths": [".pip-cache"]},
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
