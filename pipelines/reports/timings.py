"""Timings of the last builds side by side, for `inv show NAME --timings`.

They come from the manifests alone. The longest stages are first; what a manifest of an older version lacks is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipelines.artifacts import store
from pipelines.artifacts.manifest import Manifest
from pipelines.util import console

SHOWN_BUILDS = 4
SHORT_SECONDS = 1.0  # stages that take less in all builds are summed up
_UNKNOWN = "-"


def show(builds: Path, variant: str, *, as_json: bool) -> None:
    """Show the last complete builds of a variant, newest first; UsageError if there is none."""
    newest = store.newest_complete(builds, variant)
    complete = [build for build in store.builds(builds, variant) if build.state == store.COMPLETE]
    earlier = [build for build in complete if build.build_id < newest.build_id]
    made = [build.manifest() for build in (newest, *reversed(earlier[-SHOWN_BUILDS + 1 :]))]
    if as_json:
        console.emit_json({"variant": variant, "builds": [_plain(each) for each in made]})
        return
    times = [each.build_id.partition("-")[0] for each in made]
    console.table(f"{variant}: seconds by stage", ("stage", *times), stage_rows(made))
    console.table(f"{variant}: builds", ("", *times), build_rows(made))


def stage_rows(made: Sequence[Manifest]) -> list[tuple[str, ...]]:
    """The stages, by their seconds in the first of these builds, then in the next; and all short ones together."""
    stages = list(dict.fromkeys(stage for each in made for stage in each.stages))
    seconds = {stage: [each.stages.get(stage) for each in made] for stage in stages}
    shown = [stage for stage in stages if any((value or 0.0) >= SHORT_SECONDS for value in seconds[stage])]
    shown.sort(key=lambda stage: [value or 0.0 for value in seconds[stage]], reverse=True)
    others = [sum(value for stage, value in each.stages.items() if stage not in shown) for each in made]
    return [*((stage, *map(_seconds, seconds[stage])) for stage in shown), ("others", *map(_seconds, others))]


def build_rows(made: Sequence[Manifest]) -> list[tuple[str, ...]]:
    """The builds as a whole."""
    layers = list(dict.fromkeys(layer for each in made for layer in layer_seconds(each)))
    facts: list[tuple[str, Callable[[Manifest], str]]] = [
        ("total, seconds", lambda each: _seconds(each.seconds or None)),
        ("taken from the cache", lambda each: ", ".join(each.cached) or _UNKNOWN),
        ("scratch space at its peak", _scratch),
        ("image", lambda each: f"{each.artifact.size / 2**20:.0f} MiB"),
    ]
    of_layers = [(f"{layer} layer", *(_seconds(layer_seconds(each).get(layer)) for each in made)) for layer in layers]
    return [*of_layers, *((name, *map(value, made)) for name, value in facts)]


def layer_seconds(made: Manifest) -> Mapping[str, float]:
    """The seconds of each layer's stages, also for a manifest that has only the stages."""
    if made.layers:
        return made.layers
    found: dict[str, float] = {}
    for stage, seconds in made.stages.items():
        layer = stage.partition("/")[0]
        found[layer] = found.get(layer, 0.0) + seconds
    return found


def _ratio(made: Manifest) -> float | None:
    """The peak of scratch space, as a multiple of the guest's tree."""
    tree, peak = made.scratch.get("tree"), made.scratch.get("peak")
    return round(peak / tree, 2) if tree and peak else None


def _scratch(made: Manifest) -> str:
    if "peak" not in made.scratch:
        return _UNKNOWN
    ratio = _ratio(made)
    trees = f", {ratio:.2f} × the tree" if ratio is not None else ""
    return f"{made.scratch['peak'] / 2**20:.0f} MiB{trees}"


def _seconds(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.1f}"


def _plain(made: Manifest) -> dict[str, object]:
    return {
        "build_id": made.build_id,
        "seconds": made.seconds or None,
        "layers": dict(layer_seconds(made)),
        "stages": dict(made.stages),
        "cached": dict(made.cached),
        "scratch": {**made.scratch, "ratio": _ratio(made)} if made.scratch else None,
        "size": made.artifact.size,
    }
