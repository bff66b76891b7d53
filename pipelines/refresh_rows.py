"""What did a refresh do, line by line?

Steps as they ended become one row for each image and cloud, with what is new inside since the build before.
"""

from collections.abc import Sequence

from pipelines import difference, situation
from pipelines.difference import Difference
from pipelines.job_summary import Row
from pipelines.refresh import Refresh, Step
from pipelines.variant import Variant

_DONE = {
    "build": "built",
    "verify": "verified",
    "upload": "released",
    "promote": "promoted",
    "update": "updated",
    "prune": "pruned",
}


def rows(run: Refresh, variants: Sequence[Variant]) -> list[Row]:
    """All images that were asked for, in their order; one without a step had nothing to do."""
    found = [
        Row(variant="all", cloud=name, action="failed", error=f"{error.what}\n{error.remedy}")
        for name, error in run.site.unreachable.items()
    ]
    for variant in variants:
        own = [step for step in run.steps if step.variant == variant.name]
        news = _news(run, variant, own)
        where = dict.fromkeys(step.cloud for step in sorted(own, key=lambda step: step.cloud or ""))
        found += [_row(variant, cloud, [step for step in own if step.cloud == cloud], news) for cloud in where]
        if not own:
            found.append(Row(variant=variant.name, action="nothing to do"))
    return found


def _row(variant: Variant, cloud: str | None, steps: Sequence[Step], news: Difference | None) -> Row:
    system = {change.name: f"{change.old or '-'} → {change.new or '-'}" for change in news.system} if news else {}
    failed = [step.error for step in steps if step.error]
    return Row(
        variant=variant.name,
        cloud=cloud or "",
        action="failed" if failed else ", ".join(_DONE[step.verb] for step in steps),
        reason="; ".join(dict.fromkeys(step.reason for step in steps)),
        build_id=next((step.build_id for step in steps if step.build_id), ""),
        image_id=next((step.image_id for step in steps if step.image_id and step.verb != "prune"), ""),
        packages=tuple(f"{c.name} {c.old or '-'} → {c.new or '-'}" for c in news.packages) if news else (),
        driver=system.get("driver version", ""),
        kernel=system.get("kernel", ""),
        seconds={step.verb: step.seconds for step in steps},
        error="\n".join(failed),
    )


def _news(run: Refresh, variant: Variant, steps: Sequence[Step]) -> Difference | None:
    """What is in the build that this run released, against the one before; None where either is not known."""
    new = max((step.build_id for step in steps if step.verb != "prune"), default="")
    before = [record.manifest for record in run.site.records.known(variant.name) if record.manifest.build_id < new]
    made = situation.manifest_of(run.site, variant.name, new) if new else None
    return difference.between(before[-1], made) if before and made else None
