"""Description of a variant, as resolved, for `inv show`.

Elements and environment, the selected driver with its reasons, properties, the disk-image-create command.
"""

import shlex
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from pipelines.artifacts import store
from pipelines.build import fingerprint, recipe
from pipelines.catalog.variant import Variant
from pipelines.gpus import resolver
from pipelines.inputs import resolver as inputs_resolver
from pipelines.release import image_metadata


def of(variant: Variant, builds: Path, today: date) -> dict[str, object]:
    """The description as JSON values. In the command, BUILD_ID stands for the ID that a build gets."""
    now = fingerprint.present(variant, builds)
    return {
        "name": variant.name,
        "description": variant.description,
        "gpu": variant.gpu,
        **(_driver(variant, today) if variant.selection is not None else {}),
        **(_built(variant, builds) if variant.kind == "build" else _imported(variant)),
        "properties": dict(variant.properties),
        "fingerprint": now.digest,
        "release_digest": image_metadata.release_digest(variant),
        "newest_build": newest_build(builds, variant.name),
    }


def placed(variant: Variant, count: int, ram_gib: int) -> dict[str, object]:
    """The image properties that a guest with `count` of a GPU needs for its BARs; nothing for a count of 0."""
    found = {gpu: resolver.placement((gpu,), count, ram_gib) for gpu in variant.gpus if count}
    return {"guest": {gpu: _placement(place) for gpu, place in found.items()}} if found else {}


def readable(about: Mapping[str, object]) -> dict[str, object]:
    """The same for people: sentences in one line, the command as a line for a shell."""
    sentences = {name: texts for name in ("why", "warnings") if isinstance(texts := about.get(name), list)}
    about = dict(about) | {name: "; ".join(texts) for name, texts in sentences.items()}
    argv, environment = about.get("command"), about.get("environment")
    if not isinstance(argv, list) or not isinstance(environment, dict):
        return dict(about)
    line = shlex.join(["env", "-i", *(f"{name}={value}" for name, value in environment.items()), *argv])
    return dict(about) | {"command": line}


def newest_build(builds: Path, variant: str) -> str | None:
    """The ID of the newest complete build."""
    complete = [build.build_id for build in store.builds(builds, variant) if build.state == store.COMPLETE]
    return complete[-1] if complete else None


def _driver(variant: Variant, today: date) -> dict[str, object]:
    selection = variant.selection
    assert selection is not None  # the caller has checked that
    fields = {"branch": selection.branch, "modules": selection.modules, "toolkit": selection.toolkit}
    return {
        "gpus": list(variant.gpus),
        "driver": {name: value for name, value in fields.items() if value is not None},
        "why": list(selection.reasons),
        "warnings": list(resolver.warnings(selection, today)),
    }


def _placement(place: resolver.Placement) -> str:
    properties = " ".join(f"{name}={value}" for name, value in place.properties.items())
    return f"{properties or 'no property needed'} ({'; '.join(place.reasons)})"


def _built(variant: Variant, builds: Path) -> dict[str, object]:
    from pipelines.build import builder  # noqa: PLC0415  # `list` starts sooner without

    plan = recipe.resolve(variant, inputs_resolver.known(variant, fingerprint.newest(variant, builds)))
    cache = builds / ".cache" / "downloads"
    command = builder.command_for(plan, builds / variant.name / "BUILD_ID", inputs_resolver.places(variant, cache))
    # A proxy's URL may have a password. The build gets these variables all the same.
    environment = {name: value for name, value in command.environment.items() if not name.endswith("_proxy")}
    return {
        "elements": list(plan.closure),
        "layers": {layer.name: f"{' '.join(layer.elements)} ({layer.key[:12]})" for layer in plan.layers},
        "packages": list(variant.packages),
        "environment": environment,
        "command": list(command.argv),
    }


def _imported(variant: Variant) -> dict[str, object]:
    assert variant.source is not None  # the catalog refused that
    return {"source": str(variant.source.url or variant.source.path), "sha256": variant.source.sha256}
