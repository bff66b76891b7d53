"""Requests that come nearest to one that cannot be met, as advice on what to write instead."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import Any

from pipelines.gpus.compatibility import select
from pipelines.gpus.database import cuda_version, facts, known
from pipelines.gpus.request import Impossible, Request

_KEYS = ("gpus", "source", "branch", "version", "modules", "toolkit", "architecture")  # as they are written
_CHANGEABLE = ("branch", "modules", "toolkit", "source", "architecture")  # in the order of giving them up
_COUNTS = {2: "two", 3: "three", 4: "four"}

_Changes = Mapping[str, Any]


def nearest(request: Request) -> tuple[Request, ...]:
    """One request that can be met, or one per image where the GPUs need several images.

    Misspelt GPUs are corrected, or left out. Empty only where the release is not known.
    """
    request = replace(request, gpus=_corrected(request.gpus))
    together = _changed(request)
    return _split(request) if together is None else (together,)


def advice(request: Request, instead: Sequence[Request]) -> str:
    """What to write in images.yaml to get from a request to the nearest ones; empty where there are none."""
    written = [_difference(request, each) for each in instead]
    if len(written) == 1:
        return f"write {written[0]}"
    count = _COUNTS.get(len(written), str(len(written)))
    return f"make {count} images, {' and '.join(written)}" if written else ""


def _corrected(names: Sequence[str]) -> tuple[str, ...]:
    close = [name if name in known() else "".join(difflib.get_close_matches(name, known(), n=1)) for name in names]
    return tuple(dict.fromkeys(name for name in close if name))


def _split(request: Request) -> tuple[Request, ...]:
    """One request per image: each GPU goes into the first image that it fits, or into one of its own."""
    images: list[Request] = []
    for name in request.gpus:
        for position, image in enumerate(images):
            shared = _changed(replace(request, gpus=(*image.gpus, name)))
            if shared is not None:
                images[position] = shared
                break
        else:
            alone = _changed(replace(request, gpus=(name,)))
            images += [alone] if alone is not None else []
    return tuple(images)


def _changed(request: Request) -> Request | None:
    """The request for the same GPUs with as few changes as possible; None where no change helps."""
    for keys, changes in _combined_changes(request):
        other = replace(request, **changes)
        if _is_possible(other):
            return _in_full(other, keys)
    return None


def _combined_changes(request: Request) -> Iterator[tuple[tuple[str, ...], _Changes]]:
    """All changes with the keys that they concern: first none, then those of one key, of two keys, and so on."""
    for count in range(len(_CHANGEABLE) + 1):
        for keys in combinations(_CHANGEABLE, count):
            for changes in product(*(list(_changes(request, key)) for key in keys)):
                yield keys, {name: value for change in changes for name, value in change.items()}


def _changes(request: Request, key: str) -> Iterator[_Changes]:
    """What could be written in the place of one key, the likeliest first."""
    match key:
        case "branch":
            yield from _branches(request)
        case "modules" if request.modules != "auto":
            yield {"modules": "auto"}
        case "toolkit" if request.toolkit is not None:
            yield from ({"toolkit": version} for version in _toolkits(request.toolkit))
            yield {"toolkit": None}
        case "source":
            sources = ("archive", "nvidia-repo", "runfile")
            yield from ({"source": source} for source in sources if source != request.source)
        case "architecture":
            yield {"architecture": "arm64" if request.architecture == "amd64" else "amd64"}


def _branches(request: Request) -> Iterator[_Changes]:
    if request.requested_branch is not None:
        yield {"branch": request.requested_branch}
        if request.source != "runfile":  # which is one version
            yield {"branch": None, "version": None}
    yield from ({"branch": number, "version": None} for number in facts().preferred())


def _toolkits(wanted: str) -> list[str]:
    """CUDA's versions: from the wanted one down, then up."""
    newest_first = sorted(facts().toolkits, key=cuda_version, reverse=True)
    if wanted in {"archive", "auto"}:
        return newest_first
    lower = [version for version in newest_first if cuda_version(version) <= cuda_version(wanted)]
    return lower + [version for version in reversed(newest_first) if version not in lower]


def _is_possible(request: Request) -> bool:
    try:
        select(request)
    except Impossible:
        return False
    return True


def _in_full(request: Request, changed: Sequence[str]) -> Request:
    """The request with the branch and modules that it resolves to, where these or what they depend on changed."""
    selection = select(request)
    if "modules" in changed:
        request = replace(request, modules=selection.modules)
    if {"branch", "source"} & set(changed) and request.version is None:
        request = replace(request, branch=selection.branch)
    return request


def _difference(request: Request, other: Request) -> str:
    values = {key: getattr(other, key) for key in _KEYS if getattr(other, key) != getattr(request, key)}
    if other.source == "runfile" and "version" in values:  # another file, whose name has its version
        values["version"] = f"{values.pop('branch', other.branch)}.…"
    return ", ".join(f"{key}: {_yaml(value)}" for key, value in values.items())


def _yaml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    if isinstance(value, str) and value[0].isdigit():
        return f'"{value}"'
    return "null" if value is None else str(value)
