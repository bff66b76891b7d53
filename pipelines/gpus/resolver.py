"""Resolver of drivers: GPUs and a guest → branch, kernel modules and CUDA toolkit, or what to write instead.

Pure, and without a clock: database.py has the facts, compatibility.py the rules.
"""

from datetime import date, timedelta

from pipelines.gpus import nearest
from pipelines.gpus.bar_sizing import Placement, placement
from pipelines.gpus.compatibility import select
from pipelines.gpus.database import Branch, facts, known, models_of
from pipelines.gpus.request import Impossible, Request, Selection

__all__ = [
    "Impossible",
    "Placement",
    "Request",
    "Selection",
    "known",
    "models_of",
    "placement",
    "resolve",
    "warnings",
]

_SOON = timedelta(days=90)


def resolve(request: Request) -> Selection:
    """The driver that serves all GPUs of the request; Impossible, with the reason and what to write, without one."""
    try:
        return select(request)
    except Impossible as reason:
        advice = nearest.advice(request, nearest.nearest(request))
        raise Impossible("; ".join(filter(None, (str(reason), advice)))) from None


def warnings(selected: Selection | int | None, today: date) -> tuple[str, ...]:
    """Warning about a branch after its end of life or in its last 90 days, with a branch that lasts longer."""
    number = selected.branch if isinstance(selected, Selection) else selected
    branch = facts().branches.get(number) if number is not None else None
    if branch is None:
        return ()
    lasting = f"; {instead}" if (instead := _lasting(branch, today)) else ""
    if branch.end_of_life is None:
        return (f"NVIDIA no longer supports driver branch {number}{lasting}",) if branch.kind == "ended" else ()
    if branch.end_of_life < today:
        return (f"driver branch {number} is past its end of life of {branch.end_of_life}{lasting}",)
    if branch.end_of_life - today <= _SOON:
        days = (branch.end_of_life - today).days
        return (f"driver branch {number} reaches its end of life on {branch.end_of_life}, in {days} days{lasting}",)
    return ()


def _lasting(branch: Branch, today: date) -> str:
    """The branch that lasts longest and has the same modules."""
    modules = set(branch.modules)
    others = [b for b in facts().branches.values() if b.end_of_life and modules & set(b.modules) and b != branch]
    longest = max(others, key=lambda other: other.end_of_life or today)
    if longest.end_of_life is None or longest.end_of_life <= max(today, branch.end_of_life or today):
        return ""
    return f"write branch: {longest.number} (until {longest.end_of_life}), if the source has it"
