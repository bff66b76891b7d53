"""Differences between two builds.

Pure, and from their manifests alone, so that neither image needs to be on this host.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.artifacts.manifest import Manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Something that two builds do not have in common; None in the one that lacks it."""

    name: str
    old: str | None
    new: str | None

    @property
    def how(self) -> str:
        """Added, removed or changed."""
        return "added" if self.old is None else "removed" if self.new is None else "changed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """The changes from one build to another, by name.

    `system` is distribution, kernel, driver and CUDA. `elements` and `inputs` have digests, `properties` are Glance's.
    `sizes` are in bytes, old and new, also where they are the same; None: not recorded.
    """

    variant: str
    old: str
    new: str
    system: tuple[Change, ...]
    packages: tuple[Change, ...]
    elements: tuple[Change, ...]
    inputs: tuple[Change, ...]
    properties: tuple[Change, ...]
    sizes: Mapping[str, tuple[int | None, int | None]]

    @property
    def changes(self) -> Mapping[str, tuple[Change, ...]]:
        """All changes by their kind."""
        kinds = ("system", "packages", "elements", "inputs", "properties")
        return {kind: getattr(self, kind) for kind in kinds}


def between(
    old: Manifest, new: Manifest, properties: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})
) -> Difference:
    """The changes from the old build to the new one; `properties` are what Glance gets of each."""
    return Difference(
        variant=new.variant,
        old=old.build_id,
        new=new.build_id,
        system=changes(_system(old), _system(new)),
        packages=changes(old.packages, new.packages),
        elements=changes(old.elements, new.elements),
        inputs=changes(old.inputs, new.inputs),
        properties=changes(*properties),
        sizes={name: (_sizes(old).get(name), _sizes(new).get(name)) for name in ("image", "disk", "tree")},
    )


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    """The entries that two mappings do not have in common, by name."""
    names = sorted(old.keys() | new.keys())
    found = (Change(name=name, old=old.get(name), new=new.get(name)) for name in names)
    return tuple(change for change in found if change.old != change.new)


def _system(made: Manifest) -> dict[str, str]:
    """The system as an operator knows it. The certificate, which fits no table, is left out."""
    base = {name: made.base[name] for name in ("distribution", "release", "architecture") if name in made.base}
    driver = {f"driver {name}": value for name, value in made.driver.items() if name != "certificate"}
    cuda = {f"CUDA {name}": value for name, value in made.cuda.items()}
    return {**base, **({"kernel": made.kernel} if made.kernel else {}), **driver, **cuda}


def _sizes(made: Manifest) -> dict[str, int]:
    tree = {"tree": made.scratch["tree"]} if "tree" in made.scratch else {}
    return {"image": made.artifact.size, "disk": made.artifact.virtual_size, **tree}
