"""Which driver fits?

GPUs and a guest → the driver's branch, its kernel modules and whether a CUDA toolkit fits; or a refusal that says why,
and what comes nearest and works. Pure, and without a clock: gpu_facts.py has the facts, gpu_rules.py the rules.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import combinations, product
from typing import Any

from pipelines.gpus.bar_sizing import Placement, placement
from pipelines.gpus.compatibility import decide
from pipelines.gpus.database import Branch, by_pci_id, cuda_version, facts, known, models_of
from pipelines.gpus.request import Choice, Refused, Wish

__all__ = [
    "Choice",
    "Impossible",
    "Placement",
    "Wish",
    "by_pci_id",
    "known",
    "models_of",
    "placement",
    "resolve",
    "warnings",
]

_SOON = timedelta(days=90)
_COUNTS = {2: "two", 3: "three", 4: "four"}
_RELAXED = ("branch", "modules", "toolkit", "source", "architecture")  # in the order in which one would give them up


class Impossible(ValueError):
    """A wish that cannot work: the text is the reason and what to write instead.

    `nearest` are the wishes that come nearest and do resolve: one, or one per image where the GPUs need several; none
    only for a release that is not known.
    """

    def __init__(self, why: str, nearest: tuple[Wish, ...]) -> None:
        super().__init__(why)
        self.nearest = nearest


def resolve(wish: Wish) -> Choice:
    """The driver that serves all GPUs of the wish; Impossible where there is none."""
    try:
        return decide(wish)
    except Refused as refusal:
        nearest = _nearest(wish)
        raise Impossible("; ".join([str(refusal), *_advice(wish, nearest)]), nearest) from None


def warnings(chosen: Choice | int | None, today: date) -> tuple[str, ...]:
    """What to say of a branch that is past its end of life or within 90 days of it, and which one lasts longer."""
    number = chosen.branch if isinstance(chosen, Choice) else chosen
    branch = facts().branches.get(number) if number is not None else None
    if branch is None:
        return ()
    lasting = f"; {instead}" if (instead := _lasting(branch, today)) else ""
    if branch.end_of_life is None:
        return (f"NVIDIA supports driver branch {number} no longer{lasting}",) if branch.kind == "ended" else ()
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
    return f"write branch: {longest.number} (until {longest.end_of_life}), where the source has it"


# --- What comes nearest and works -----------------------------------------------------------------------------------


def _nearest(wish: Wish) -> tuple[Wish, ...]:
    meant = replace(wish, gpus=_meant(wish.gpus))
    one = _relaxed(meant)
    if one is not None:
        return (one,)
    images: list[Wish] = []
    for name in meant.gpus:
        joined = ((at, _relaxed(replace(meant, gpus=(*image.gpus, name)))) for at, image in enumerate(images))
        at, together = next(((at, found) for at, found in joined if found), (len(images), None))
        alone = together or _relaxed(replace(meant, gpus=(name,)))
        images[at : at + 1] = [alone] if alone else []
    return tuple(images)


def _meant(names: Sequence[str]) -> tuple[str, ...]:
    """The names, an unknown one replaced by what it looks like, or left out."""
    close = [name if name in known() else "".join(difflib.get_close_matches(name, known(), n=1)) for name in names]
    return tuple(dict.fromkeys(name for name in close if name))


def _relaxed(wish: Wish) -> Wish | None:
    """The wish with as few changes as make it work, said in full; its GPUs stay."""
    if _works(wish):
        return wish
    for size in range(1, len(_RELAXED) + 1):
        for names in combinations(_RELAXED, size):
            for changes in product(*(list(_alternatives(wish, name)) for name in names)):
                other = replace(wish, **{name: value for change in changes for name, value in change.items()})
                if _works(other):
                    return _in_full(other, names)
    return None


def _alternatives(wish: Wish, name: str) -> Iterator[Mapping[str, Any]]:
    """What one would write in place of a part of the wish, the likeliest first."""
    if name == "branch":
        if wish.asked_branch is not None:
            yield {"branch": wish.asked_branch}
            if wish.source != "runfile":  # which is one version
                yield {"branch": None, "version": None}
        yield from ({"branch": number, "version": None} for number in facts().preferred())
    elif name == "modules" and wish.modules != "auto":
        yield {"modules": "auto"}
    elif name == "toolkit" and wish.toolkit is not None:
        yield from ({"toolkit": version} for version in _toolkits_near(wish.toolkit))
        yield {"toolkit": None}
    elif name == "source":
        yield from ({"source": source} for source in ("archive", "nvidia-repo", "runfile") if source != wish.source)
    elif name == "architecture":
        yield {"architecture": "arm64" if wish.architecture == "amd64" else "amd64"}


def _toolkits_near(wanted: str) -> list[str]:
    """CUDA's versions: from the wanted one down, then up."""
    newest_first = sorted(facts().toolkits, key=cuda_version, reverse=True)
    if wanted in {"archive", "auto"}:
        return newest_first
    lower = [version for version in newest_first if cuda_version(version) <= cuda_version(wanted)]
    return lower + [version for version in reversed(newest_first) if version not in lower]


def _works(wish: Wish) -> bool:
    try:
        decide(wish)
    except Refused:
        return False
    return True


def _in_full(wish: Wish, changed: Sequence[str]) -> Wish:
    choice = decide(wish)
    if "modules" in changed:
        wish = replace(wish, modules=choice.modules)
    if {"branch", "source"} & set(changed) and wish.version is None:
        wish = replace(wish, branch=choice.branch)
    return wish


def _advice(wish: Wish, nearest: Sequence[Wish]) -> Iterator[str]:
    if len(nearest) == 1:
        yield f"write {_changes(wish, nearest[0])}"
    elif nearest:
        count = _COUNTS.get(len(nearest), str(len(nearest)))
        yield f"make {count} images, {' and '.join(_changes(wish, image) for image in nearest)}"


def _changes(wish: Wish, other: Wish) -> str:
    """What to write in images.yaml to get from one wish to the other."""
    names = ("gpus", "source", "branch", "version", "modules", "toolkit", "architecture")
    said = {name: getattr(other, name) for name in names if getattr(other, name) != getattr(wish, name)}
    if other.source == "runfile" and "version" in said:  # another file, whose name has its version
        said["version"] = f"{said.pop('branch', other.branch)}.…"
    return ", ".join(f"{name}: {_yaml(value)}" for name, value in said.items())


def _yaml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    if isinstance(value, str) and value[0].isdigit():
        return f'"{value}"'
    return "null" if value is None else str(value)
