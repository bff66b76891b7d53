"""Report of GPUs and driver branches for `inv gpus`, as tables or as JSON.

For a guest with a number of GPUs and an amount of RAM, also the image properties that it needs.
"""

import fnmatch
import re
from collections.abc import Sequence
from datetime import date

from pipelines.catalog.problems import did_you_mean
from pipelines.gpus.database import Branch, Gpu, facts
from pipelines.gpus.resolver import known, models_of, placement, warnings
from pipelines.util import console, units
from pipelines.util.errors import CatalogError, UsageError


def gpus(only: str | None, count: str, ram: str, today: date, *, as_json: bool) -> None:
    """Show all GPUs, or those in `only`, and branches; also properties for a guest with `count` (0: none) and `ram`."""
    models = [facts().gpus[name] for name in _selected(only)]
    number, ram_gib = guest(count, ram)
    branches = list(facts().branches.values())
    if as_json:
        plain = [
            _plain_gpu(gpu) | ({"placement": _plain_placement(gpu, number, ram_gib)} if number else {})
            for gpu in models
        ]
        console.emit_json({"gpus": plain, "branches": [_plain_branch(branch, today) for branch in branches]})
        return
    _show_gpus(models)
    _show_branches(branches, today)
    if number:
        _show_placement(models, number, ram_gib)


def guest(count: str, ram: str) -> tuple[int, int]:
    """The GPUs (0: no guest is requested) and the RAM in GiB of a guest, from the command line."""
    return _count(count), _ram(ram)


def _selected(only: str | None) -> list[str]:
    """The models of a comma list of models, generations and globs, each once."""
    parts = ["*"] if only is None else [part.strip() for part in only.split(",") if part.strip()]
    for part in parts:
        if not fnmatch.filter(known(), part):
            meant = did_you_mean(part, known()).capitalize()
            raise CatalogError(f"there is no known GPU {part}", remedy=meant if meant.endswith("?") else f"{meant}.")
    names = (name for part in parts for name in fnmatch.filter(known(), part))
    return list(dict.fromkeys(model for name in names for model in models_of(name)))


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise UsageError(f"--count {text} is not a valid number of GPUs", remedy="Write a number such as 8.")
    return int(text)


def _ram(text: str) -> int:
    remedy = "Write a number and GiB or TiB: --ram 512GiB."
    try:
        gib, rest = divmod(units.parse_size(text), 2**30)
    except ValueError as error:
        raise UsageError(f"--ram {text}: {error}", remedy=remedy) from None
    if rest:
        raise UsageError(f"--ram {text}: this is not a whole number of GiB", remedy=remedy)
    return gib


def _show_gpus(models: Sequence[Gpu]) -> None:
    columns = ("gpu", "PCI IDs", "generation", "capability", "memory", "BAR1", "branches", "modules", "CUDA", "links")
    rows = [
        (
            gpu.name,
            " ".join(gpu.pci),
            gpu.generation.name,
            gpu.capability,
            "/".join(str(gib) for gib in sorted(set(gpu.pci.values()))) + " GiB",
            f"{gpu.bar:g} GiB" if gpu.bar else "-",
            _span(gpu.first_branch, gpu.generation.last_branch),
            " ".join(gpu.generation.modules),
            _span(gpu.first_cuda, gpu.generation.last_cuda),
            " ".join(link for link in ("nvlink", "nvswitch") if getattr(gpu, link)) or "-",
        )
        for gpu in models
    ]
    console.table("GPUs", columns, rows)


def _show_branches(branches: Sequence[Branch], today: date) -> None:
    columns = ("branch", "kind", "end of life", "CUDA", "modules", "default", "note")
    rows = [
        (
            str(branch.number),
            branch.kind,
            str(branch.end_of_life or "-"),
            branch.cuda or "-",
            " ".join(branch.modules),
            branch.default,
            " ".join(warnings(branch.number, today)),
        )
        for branch in branches
    ]
    console.table("Driver branches", columns, rows)


def _show_placement(models: Sequence[Gpu], count: int, ram_gib: int) -> None:
    title = f"Image properties for a guest with {count} of these GPUs and {ram_gib} GiB of RAM"
    rows = []
    for gpu in models:
        found = placement([gpu.name], count, ram_gib)
        properties = " ".join(f"{name}={value}" for name, value in found.properties.items())
        rows.append((gpu.name, properties or "-", "; ".join(found.reasons)))
    console.table(title, ("gpu", "properties", "why"), rows)


def _span(first: object, last: object | None) -> str:
    return f"{first}+" if last is None else f"{first}–{last}"


def _plain_gpu(gpu: Gpu) -> dict[str, object]:
    return {
        "name": gpu.name,
        "label": gpu.label,
        "generation": gpu.generation.name,
        "architecture": gpu.generation.architecture,
        "capability": gpu.capability,
        "memory_gib": dict(gpu.pci),
        "bar1_gib": gpu.bar,
        "nvlink": gpu.nvlink,
        "nvswitch": gpu.nvswitch,
        "first_branch": gpu.first_branch,
        "last_branch": gpu.generation.last_branch,
        "modules": list(gpu.generation.modules),
        "first_cuda": gpu.first_cuda,
        "last_cuda": gpu.generation.last_cuda,
    }


def _plain_branch(branch: Branch, today: date) -> dict[str, object]:
    return {
        "branch": branch.number,
        "kind": branch.kind,
        "end_of_life": None if branch.end_of_life is None else str(branch.end_of_life),
        "cuda": branch.cuda,
        "modules": list(branch.modules),
        "default": branch.default,
        "warnings": list(warnings(branch.number, today)),
    }


def _plain_placement(gpu: Gpu, count: int, ram_gib: int) -> dict[str, object]:
    found = placement([gpu.name], count, ram_gib)
    return {"properties": dict(found.properties), "reasons": list(found.reasons)}
