"""What can we build?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.variant import Base, Cuda, Disk, Driver, Glance, Kernel, Variant

__all__ = ["Base", "Catalog", "Cuda", "Disk", "Driver", "Glance", "Kernel", "Variant", "load"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalog:
    """images.yaml, resolved: `variants` are those that can be built, by name, in the file's order."""

    version: int
    records: str
    variants: Mapping[str, Variant]
    overridden: Mapping[str, Mapping[str, Variant]] = field(default_factory=dict)

    def for_cloud(self, variant: Variant, cloud: str) -> Variant:
        """The variant as `clouds` in images.yaml changes it for one cloud."""
        return self.overridden.get(cloud, {}).get(variant.name, variant)


def load(path: Path) -> Catalog:
    """Read images.yaml; CatalogError with all that is wrong in it."""
    raise NotImplementedError(path)
