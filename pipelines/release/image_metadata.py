"""Names, properties and digests that an image of a build has in a cloud."""

from pipelines.artifacts.manifest import Manifest
from pipelines.catalog import distributions
from pipelines.catalog.variant import Variant
from pipelines.glance import properties as image_properties
from pipelines.glance.client import Image
from pipelines.util import files

PREFIX = "gpu_image_"
ID, VARIANT, BUILD_ID = f"{PREFIX}id", f"{PREFIX}variant", f"{PREFIX}build_id"
FINGERPRINT, RELEASE_DIGEST, SHA256 = f"{PREFIX}fingerprint", f"{PREFIX}release_digest", f"{PREFIX}sha256"
DRIVER, KERNEL = f"{PREFIX}driver", f"{PREFIX}kernel"
PROMOTED_AT = f"{PREFIX}promoted_at"  # tells what was once current from what never was
RETIRED_AT = f"{PREFIX}retired_at"  # hidden since then, once current
REJECTED_AT = f"{PREFIX}rejected_at"  # rolled back
PROPERTIES = f"{PREFIX}properties"  # the names of the properties that we declared, to remove them one day
DATA = f"{PREFIX}data"  # the digest of data that are not the build's own file, once they were compared


def release_digest(variant: Variant) -> str:
    """The digest of an image's metadata; when it changes, the image is updated, not built again."""
    release = {
        "name": variant.image_name,
        "visibility": variant.glance.visibility,
        "members": sorted(variant.glance.members),
        "tags": sorted(variant.glance.tags),
        "protected": variant.glance.protected,
        "min_ram": variant.glance.min_ram,
        "properties": dict(variant.properties),
    }
    return files.canonical_digest(release)


def hidden_name(variant: Variant, build_id: str) -> str:
    """The name of an image that is not visible (yet, or any more)."""
    return f"{variant.image_name} {build_id}"


def min_disk(made: Manifest) -> int:
    """Glance's min_disk: the image's virtual size in GiB, rounded up."""
    return -(-made.artifact.virtual_size // 2**30)


def declared_properties(variant: Variant, made: Manifest) -> dict[str, str]:
    """The properties that the catalog declares, and those derived from the image as it was built."""
    derived: dict[str, str] = {}
    if "type" in made.base:  # an imported image
        derived = image_properties.derive_imported(
            os_type=made.base["type"],
            distribution=made.base["distribution"],
            version=made.base["release"],
            architecture=made.base["architecture"],
            gpu=bool(variant.gpus),
        )
    elif made.base:
        distribution, release = made.base["distribution"], made.base["release"]
        derived = image_properties.derive(
            distribution=distribution,
            version=distributions.version(distribution, release),
            architecture=made.base["architecture"],
            gpu=bool(made.driver),
            packages=made.packages,
        )
    together = derived | dict(variant.glance.properties)
    return {name: value for name, value in together.items() if value is not None}


def properties(variant: Variant, made: Manifest, image_id: str) -> dict[str, str]:
    """All properties of a new image: the declared ones, and its identity."""
    declared = declared_properties(variant, made)
    identity = {
        ID: image_id,
        VARIANT: variant.name,
        BUILD_ID: made.build_id,
        FINGERPRINT: made.fingerprint,
        RELEASE_DIGEST: release_digest(variant),
        SHA256: made.artifact.sha256,
        DRIVER: made.driver.get("version", ""),
        KERNEL: made.kernel,
        PROPERTIES: " ".join(sorted(declared)),
    }
    return {**declared, **{name: value for name, value in identity.items() if value}}


def known_properties(variant: Variant, image: Image) -> dict[str, str]:
    """The same where the manifest of its build is not known: properties derived from the image as it was built stay."""
    once = image.properties.get(PROPERTIES, "").split()
    declared = {name: image.properties[name] for name in once if name in image.properties}
    for name, value in variant.glance.properties.items():
        if value is None:
            declared.pop(name, None)
        else:
            declared[name] = value
    own = {name: value for name, value in image.properties.items() if name.startswith(PREFIX)}
    return declared | own | {RELEASE_DIGEST: release_digest(variant), PROPERTIES: " ".join(sorted(declared))}
