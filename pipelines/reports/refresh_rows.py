"""What did a refresh do, line by line?

Steps as they ended become one row for each image and cloud, with what is new inside since the build before. What failed
outside of a step, and what was never reached, has a row as well.
"""

from collections.abc import Sequence

from pipelines.artifacts import diff
from pipelines.artifacts.diff import Difference
from pipelines.catalog.variant import Variant
from pipelines.reports.refresh_summary import NOT_REACHED, Row
from pipelines.util import console
from pipelines.util.errors import PipelineError
from pipelines.workflows import site
from pipelines.workflows.refresh import Refresh, Step, said

_NEW = ("build", "verify", "upload", "promote")  # after the others there is no other build than before
_DONE = {
    "build": "built",
    "verify": "verified",
    "upload": "released",
    "promote": "promoted",
    "update": "updated",
    "prune": "pruned",
}


def rows(run: Refresh, variants: Sequence[Variant]) -> list[Row]:
    """All images that were asked for, in their order. It is no error that what is new cannot be found out."""
    found = [
        Row(variant="all", cloud=name, action="failed", error=said(error))
        for name, error in run.site.unreachable.items()
    ]
    for variant in variants:
        own = _rows(run, variant)
        error = run.ended.get(variant.name)
        if error and not any(row.error for row in own):
            own.append(Row(variant=variant.name, action="failed", error=error))
        if not own:
            own.append(Row(variant=variant.name, action=NOT_REACHED if error is None else "nothing to do"))
        found += own
    return found


def _rows(run: Refresh, variant: Variant) -> list[Row]:
    """One image: what was done here, and in or with each cloud."""
    steps = sorted((step for step in run.steps if step.variant == variant.name), key=lambda step: step.cloud or "")
    news = _news(run, variant, steps)
    where = dict.fromkeys(step.cloud for step in steps)
    done = [_row(variant, cloud, [step for step in steps if step.cloud == cloud], news) for cloud in where]
    return done + [
        Row(variant=name, cloud=cloud, action="failed", error=error)
        for (name, cloud), error in run.unserved.items()
        if name == variant.name
    ]


def _row(variant: Variant, cloud: str | None, steps: Sequence[Step], news: Difference | None) -> Row:
    system = {change.name: f"{change.old or '-'} → {change.new or '-'}" for change in news.system} if news else {}
    failed = [step.error for step in steps if step.error]
    return Row(
        variant=variant.name,
        cloud=cloud or "",
        action="failed" if failed else ", ".join(map(_done, steps)),
        reason="; ".join(dict.fromkeys(step.reason for step in steps)),
        build_id=next((step.build_id for step in steps if step.build_id), ""),
        image_id=next((step.image_id for step in steps if step.image_id and step.verb != "prune"), ""),
        packages=tuple(f"{c.name} {c.old or '-'} → {c.new or '-'}" for c in news.packages) if news else (),
        driver=system.get("driver version", ""),
        kernel=system.get("kernel", ""),
        seconds={step.verb: step.seconds for step in steps},
        error="\n".join(failed),
    )


def _done(step: Step) -> str:
    return "nothing pruned" if step.verb == "prune" and not step.image_id else _DONE[step.verb]


def _news(run: Refresh, variant: Variant, steps: Sequence[Step]) -> Difference | None:
    """What is in the build that this run released, against the one before; None where either is not known."""
    new = max((step.build_id for step in steps if step.verb in _NEW), default="")
    if not new:
        return None
    try:
        before = [record.manifest for record in run.site.records.known(variant.name) if record.manifest.build_id < new]
        made = site.manifest_of(run.site, variant.name, new)
    except PipelineError as error:
        console.warn(f"{variant.name}: what is new in {new} is not known: {error.what}")
        return None
    return diff.between(before[-1], made) if before and made else None
