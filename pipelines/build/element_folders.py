"""What of an element takes part in a run?

A build in several runs gives diskimage-builder a folder of elements of its own for each: an element that an earlier
run was through with keeps what others read of it, and leaves out the phases that are done; what all builds do last is
left to the last run. The folder is a copy, so a checkout that changes meanwhile does not change a build.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from pipelines.build import elements
from pipelines.build.recipe import Recipe, Run

# Up to here a phase works on its own element's part of the tree, once.
_ONCE = (
    *("root.d", "extra-data.d", "pre-install.d", "install.d", "post-install.d", "post-root.d"),
    *("package-installs.yaml", "package-installs.json", "static", "init-scripts"),
)
_AT_THE_END = ("block-device.d", "pre-finalise.d", "finalise.d", "cleanup.d")
# These act for other elements: they install what those name, copy what those have in bin/, static/ or modprobe.d/. What
# stands behind them is work of their own, done once.
FOR_OTHERS: Mapping[str, tuple[str, ...]] = {
    "dib-init-system": (),
    "dib-python": (),
    "dracut-regenerate": (),
    "install-bin": (),
    "install-static": (),
    "install-types": (),
    "modprobe": ("install.d",),
    "package-installs": (),
    "pkg-map": (),
    "source-repositories": (),
    "svc-map": (),
}
BETWEEN_RUNS = ("begin-with-tree", "end-with-tree", "no-block-device")


def write(plan: Recipe, run: Run, folder: Path) -> None:
    """Make `folder` with the elements of the run's layers, each as far as it takes part."""
    names = [layer.name for layer in run.layers]
    done = set(names[:-1]) if run.begins_with_tree else set()
    for element, source in plan.closure.items():
        layer = plan.layer_of[element]
        if layer not in names:
            continue
        left_out = [*FOR_OTHERS.get(element, _ONCE)] if layer in done else []
        left_out += _AT_THE_END if run.ends_with_tree else ()
        _copy(source, folder / element, left_out)
    for element in BETWEEN_RUNS:
        _copy(elements.OURS / element, folder / element, [])


def _copy(source: Path, target: Path, left_out: list[str]) -> None:
    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name == "__pycache__" or (Path(folder) == source and name in left_out)]

    shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
