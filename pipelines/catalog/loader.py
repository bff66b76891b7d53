"""Loader of images.yaml: the file → Catalog, or all that is wrong in it, reported at once."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipelines.catalog import inheritance
from pipelines.catalog.clouds import CatalogFile, Cloud, Delivery
from pipelines.catalog.problems import Layer, Merged, Problems, did_you_mean
from pipelines.catalog.types import property_text
from pipelines.catalog.validation import Model, Validator, field_names
from pipelines.catalog.variant import Variant
from pipelines.catalog.yaml_file import Document, Where, read
from pipelines.glance import properties
from pipelines.util.errors import CatalogError

_FILE = Model(cls=CatalogFile, adapter=TypeAdapter(CatalogFile), keys=field_names(CatalogFile))
_CLOUD = Model(cls=Cloud, adapter=TypeAdapter(Cloud), keys=field_names(Cloud))
_VARIANT = Model(
    cls=Variant,
    adapter=TypeAdapter(Variant),
    keys=(*(key for key in field_names(Variant) if key != "name"), "parent", "abstract"),
    placeholders={"disk": {"size": "1GiB"}, "base": {"distribution": "debian", "release": "trixie"}},
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalog:
    """images.yaml, resolved.

    `variants` are the images that can be built, by name, in the file's order; `abstract` names those that are only
    inherited from. `overridden` is cloud → name → the variant as that cloud has it.
    """

    version: int
    records: str
    clouds: Mapping[str, Cloud]
    variants: Mapping[str, Variant]
    abstract: tuple[str, ...] = ()
    overridden: Mapping[str, Mapping[str, Variant]] = field(default_factory=dict)

    def select(self, names: str | None) -> tuple[Variant, ...]:
        """The variants of a name, a comma list or globs, each once; None is all. CatalogError for an unknown name."""
        if names is None:
            return tuple(self.variants.values())
        wanted = [part.strip() for part in names.split(",") if part.strip()]
        if not wanted:
            raise CatalogError("no image is named", remedy=f"Name one or more of: {', '.join(self.variants)}.")
        found = dict.fromkeys(name for part in wanted for name in self._matching(part))
        return tuple(self.variants[name] for name in found)

    def for_cloud(self, variant: Variant, cloud: str) -> Variant:
        """The variant as `clouds` in images.yaml changes it for one cloud; most clouds are not mentioned there."""
        return self.overridden.get(cloud, {}).get(variant.name, variant)

    def delivery(self, cloud: str) -> Delivery:
        """How one cloud wants its images delivered."""
        found = self.clouds.get(cloud)
        return found.delivery if found is not None else Delivery()

    def _matching(self, pattern: str) -> list[str]:
        if pattern in self.abstract:
            raise CatalogError(
                f"{pattern} is abstract: it is only inherited from", remedy="Name an image that has it as parent."
            )
        found = fnmatch.filter(self.variants, pattern)
        if not found:
            raise CatalogError(
                f"there is no image {pattern} in the catalog",
                remedy=did_you_mean(pattern, list(self.variants)).capitalize().rstrip("?") + ".",
            )
        return found


def load(path: Path) -> Catalog:
    """Read images.yaml; CatalogError (exit code 2) with all that is wrong in it."""
    file = read(path)
    problems = Problems(file)
    catalog = _catalog(file, problems, path.parent)
    found = problems.all()
    if found or catalog is None:
        count = "a problem" if len(found) == 1 else f"{len(found)} problems"
        listed = "".join(f"\n  {problem}" for problem in found)
        raise CatalogError(f"{path} has {count}:{listed}", remedy="Correct the file; nothing else was done.")
    return catalog


def _catalog(file: Document, problems: Problems, folder: Path) -> Catalog | None:
    if not isinstance(file.value, dict):
        problems.add((), "the file must be a mapping; write `version: 1` and `images:`")
        return None
    return _Resolver(file.value, Validator(problems=problems, folder=folder)).catalog()


class _Resolver:
    """Turns the plain values of one file into a catalog, and collects the file's problems."""

    def __init__(self, top: Mapping[str, Any], validator: Validator) -> None:
        self._top = {key: value for key, value in top.items() if value is not None}
        self._validator = validator
        self._problems = validator.problems
        self._images = {name: image for name, image in _mapping(top.get("images")).items() if isinstance(image, dict)}
        self._parents = {name: self._parent(name) for name in self._images}
        self._chains = {name: inheritance.chain(name, self._parents) for name in self._images}

    def catalog(self) -> Catalog | None:
        """The catalog; None, or an incomplete one, where the file has problems."""
        file = self._validator.validated(_FILE, Merged(document=self._top, layers=[((), self._top)]))
        if not _mapping(self._top.get("images")) and file is not None:
            self._problems.add(("images",), "no image is defined; write at least one")
        for name in self._images:
            self._check_own_keys(name)
        clouds = {name: self._cloud(name, raw) for name, raw in _mapping(self._top.get("clouds")).items()}
        resolved = {name: self._resolved(name, self._layers(name)) for name in self._images}
        variants = {name: variant for name, variant in resolved.items() if variant is not None}
        overridden = {name: self._overridden(name, variants) for name in clouds}
        self._check_names(variants, None)
        for cloud, there in overridden.items():
            self._check_names(there, cloud)
        if file is None:
            return None
        return Catalog(
            version=file.version,
            records=file.records,
            clouds={name: cloud for name, cloud in clouds.items() if cloud is not None},
            variants=variants,
            abstract=tuple(name for name in self._images if self._is_abstract(name)),
            overridden=overridden,
        )

    def _check_own_keys(self, name: str) -> None:
        image, parent, chain = self._images[name], self._parents[name], self._chains[name]
        if "name" in image:
            self._add(name, "name", f"unknown key; {did_you_mean('name', _VARIANT.keys)}")
        if image.get("abstract") not in (None, True, False):
            self._add(name, "abstract", "write true or false")
        if parent is None:
            return
        if parent not in _mapping(self._top.get("images")):
            others = [other for other in self._images if other != name]
            self._add(name, "parent", f"there is no image {parent}; {did_you_mean(parent, others)}")
        elif self._parents[chain[0]] == name:
            circle = " → ".join([name, *reversed(chain[:-1]), name])
            self._add(name, "parent", f"an image cannot be its own ancestor ({circle}); remove one of these parents")

    def _check_names(self, variants: Mapping[str, Variant], cloud: str | None) -> None:
        """No two images (of one cloud) have the same name in Glance: users could not tell them apart."""
        owners: dict[str, str] = {}
        for name, variant in variants.items():
            other = owners.setdefault(variant.image_name, name)
            if other == name:
                continue
            override = _mapping(_mapping(_mapping(self._top.get("clouds")).get(cloud or "")).get("glance"))
            where: Where = ("clouds", cloud or "") if "name" in override else ("images", name)
            if cloud is None or "name" in override:
                what = f"{other} and {name} would both be called {variant.image_name}; write {{variant}} in the name"
                self._problems.add((*where, "glance", "name"), what)

    def _add(self, name: str, key: str, what: str) -> None:
        self._problems.add(("images", name, key), what)

    def _parent(self, name: str) -> str | None:
        parent = self._images[name].get("parent")
        if parent is not None and not isinstance(parent, str):
            self._add(name, "parent", "write the name of one other image, in quotes where it is a number")
        return parent if isinstance(parent, str) else None

    def _is_abstract(self, name: str) -> bool:
        return self._images[name].get("abstract") is True

    def _layers(self, name: str) -> list[Layer]:
        """Where an image's values come from: itself, its parent, and so on."""
        return [(("images", each), self._images[each]) for each in reversed(self._chains[name])]

    def _cloud(self, name: str, raw: Any) -> Cloud | None:
        merged = Merged(document=inheritance.without_nulls(_mapping(raw)), layers=[(("clouds", name), _mapping(raw))])
        cloud = self._validator.validated(_CLOUD, merged)
        self._check_properties(merged, None)
        return cloud

    def _overridden(self, cloud: str, variants: Mapping[str, Variant]) -> dict[str, Variant]:
        """Every variant with what one cloud changes in its `glance`."""
        change = {"glance": _mapping(_mapping(_mapping(self._top["clouds"])[cloud]).get("glance"))}
        above: Layer = (("clouds", cloud), change)
        resolved = {name: self._resolved(name, [above, *self._layers(name)]) for name in variants}
        return {name: variant for name, variant in resolved.items() if variant is not None}

    def _resolved(self, name: str, layers: Sequence[Layer]) -> Variant | None:
        """An image with all that it inherits; None for an abstract one, and where it cannot be used."""
        document = inheritance.inherit([layer for _, layer in reversed(layers)], own=self._images[name])
        flavors = document.pop("flavors", None)  # older files may have it, empty
        merged = Merged(document={"name": name, **document}, layers=layers)
        if flavors:
            self._problems.add(merged.origin(("flavors",)), "flavors are not supported; remove this key")
        partial = self._is_abstract(name) or self._parents[self._chains[name][0]] is not None
        variant = self._validator.validated(_VARIANT, merged, partial=partial)
        self._check_properties(merged, None if partial else variant)
        if partial or variant is None:
            return None
        self._check_members(variant, layers)
        return variant

    def _check_members(self, variant: Variant, layers: Sequence[Layer]) -> None:
        """Members need `visibility: shared`; checked once merged, since each may be in another place of the file."""
        glance = variant.glance
        if glance.members and glance.visibility != "shared":
            places = (
                place for place, layer in layers if {"members", "visibility"} & set(_mapping(layer.get("glance")))
            )
            what = f"members cannot see {variant.name} while it is {glance.visibility}; write `visibility: shared`"
            self._problems.add((*next(places, layers[0][0]), "glance"), what)

    def _check_properties(self, merged: Merged, variant: Variant | None) -> None:
        declared = _mapping(_mapping(merged.document.get("glance")).get("properties"))
        sound = {name: value for name, value in declared.items() if isinstance(value, str | int | None)}
        faults = properties.check_each({n: None if v is None else property_text(v) for n, v in sound.items()})
        if variant is not None and not faults:
            faults = properties.check(
                variant.properties,
                modules_signed=variant.signed_modules or not variant.gpu,
                packages=variant.packages if variant.kind == "build" else None,
            )
        found = ((("glance", "properties", fault.name), fault.what) for fault in faults)
        self._problems.add_merged(found, merged)


def _mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is a mapping, else an empty one: validation reports it."""
    return value if isinstance(value, dict) else {}
