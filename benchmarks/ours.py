"""Durations of our own builds.

Each case is a real build by a copy of the project, which may be changed; the operator's checkout is not touched. The
cases of one run follow each other in one folder of builds with one cache: `cold` empties both.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from benchmarks.site import Site, Taken, environment, remove
from pipelines.artifacts import store
from pipelines.artifacts.store import Build
from pipelines.build.recipe import Command
from pipelines.catalog.variant import Variant
from pipelines.util.errors import HostError

PROJECT = Path(__file__).resolve().parent.parent
_COPIED = ("inv", "tasks.py", "bindep.txt", "pyproject.toml")
_COPIED_TREES = ("pipelines", "elements", "benchmarks", "requirements")
_OF_THE_VARIANT = "elements/gpu-check/static/usr/bin/gpu-check"
_OF_THE_DRIVER = "elements/nvidia-archive/install.d/70-install-driver"


def cold(site: Site, variant: Variant) -> Iterator[Taken]:
    """Nothing is there: no layer, no module, no download."""
    remove(site.ours(variant))
    seconds = _build(site, variant, "cold")
    made = _newest(site, variant)
    yield Taken(quantity="cold", value=seconds, facts=_facts(made))
    scratch = made.manifest().scratch
    if "peak" in scratch and "tree" in scratch:
        yield Taken(quantity="scratch", value=scratch["peak"])
        yield Taken(quantity="tree", value=scratch["tree"])


def nothing(site: Site, variant: Variant) -> Iterator[Taken]:
    """`inv build` again. The first call verifies what `cold` has built, and is not counted."""
    _prepare(site, variant)
    _inv_build(site, variant, "verify once")
    before = store.builds(_builds(site, variant), variant.name)
    seconds = _inv_build(site, variant, "nothing changed")
    fresh = len(store.builds(_builds(site, variant), variant.name)) - len(before)
    yield Taken(quantity="nothing", value=seconds, facts={"new builds": str(fresh)})


def second(site: Site, variant: Variant) -> Iterator[Taken]:
    """A variant of another size, with gpu-check's first boot."""
    _prepare(site, variant)
    name = f"{variant.name}-second"
    images = yaml.safe_load((_project(site, variant) / "images.yaml").read_text(encoding="utf-8"))
    images["images"][name] = {
        "parent": variant.name,
        "disk": {"size": "16GiB"},
        "environment": {"DIB_GPU_CHECK_FIRST_BOOT": "1"},
    }
    catalog = site.ours(variant) / "second.yaml"
    catalog.write_text(yaml.safe_dump(images), encoding="utf-8")
    seconds = _run(site, variant, "second variant", catalog, name)
    made = store.newest_complete(_builds(site, variant), name)
    yield Taken(quantity="second", value=seconds, facts=_facts(made))


def warm(site: Site, variant: Variant) -> Iterator[Taken]:
    """One of our elements is another than in the last build."""
    _prepare(site, variant)
    _change(_project(site, variant) / _OF_THE_VARIANT)
    seconds = _build(site, variant, "warm")
    yield Taken(quantity="warm", value=seconds, facts=_facts(_newest(site, variant)))


def driver(site: Site, variant: Variant) -> Iterator[Taken]:
    """The driver's layer is another, as after a new driver: its modules are compiled."""
    _prepare(site, variant)
    _change(_project(site, variant) / _OF_THE_DRIVER)
    remove(_builds(site, variant) / ".cache" / "modules")
    seconds = _build(site, variant, "driver")
    yield Taken(quantity="driver", value=seconds, facts=_facts(_newest(site, variant)))


def _prepare(site: Site, variant: Variant) -> None:
    """Have a build, uncounted, where the case `cold` did not make one before."""
    if not _project(site, variant).exists():
        _build(site, variant, "prepare")


def _build(site: Site, variant: Variant, what: str) -> float:
    project = _project(site, variant)
    if not project.exists():
        _copy(site, project)
    return _run(site, variant, what, project / "images.yaml", variant.name)


def _run(site: Site, variant: Variant, what: str, catalog: Path, name: str) -> float:
    argv = (sys.executable, "-m", "benchmarks.building", str(catalog), name, str(_builds(site, variant)))
    return site.run(_command(argv), f"{variant.name} {what}", cwd=_project(site, variant))


def _inv_build(site: Site, variant: Variant, what: str) -> float:
    """What an operator types, its checks for missing packages included."""
    project = _project(site, variant)
    if not (PROJECT / ".venv" / ".stamp").exists():
        raise HostError("this project is not set up by ./inv", remedy="Run `./inv bench`.")
    if not (project / ".venv").exists():
        (project / ".venv").symlink_to(PROJECT / ".venv")
    argv = (str(project / "inv"), "build", variant.name, "--builds", str(_builds(site, variant)))
    return site.run(_command(argv), f"{variant.name} {what}", cwd=project)


def _command(argv: tuple[str, ...]) -> Command:
    return Command(argv=argv, environment=environment())


def _copy(site: Site, project: Path) -> None:
    project.mkdir(parents=True)
    shutil.copy2(site.catalog, project / "images.yaml")
    for name in _COPIED:
        shutil.copy2(PROJECT / name, project / name)
    for name in _COPIED_TREES:
        shutil.copytree(
            PROJECT / name, project / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "results")
        )


def _change(path: Path) -> None:
    """A comment at the end: another content, the same effect."""
    with path.open("a", encoding="utf-8") as script:
        script.write("# changed by a benchmark\n")


def _facts(made: Build) -> dict[str, str]:
    about = made.manifest()
    facts = {"driver": about.driver.get("version", ""), "kernel": about.kernel, "packages": str(len(about.packages))}
    return facts | {"from the cache": ", ".join(sorted(about.cached)), "bytes": str(about.artifact.size)}


def _newest(site: Site, variant: Variant) -> Build:
    return store.newest_complete(_builds(site, variant), variant.name)


def _project(site: Site, variant: Variant) -> Path:
    return site.ours(variant) / "project"


def _builds(site: Site, variant: Variant) -> Path:
    return site.ours(variant) / "builds"
