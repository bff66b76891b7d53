"""The SBOM of a build, a CycloneDX 1.6 document.

It is made from the manifest alone, and is always the same for the same manifest: the image with its digests, packages
with their package URLs, kernel, driver and CUDA toolkit, and what it was made with (elements, inputs).
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from pipelines.artifacts import store
from pipelines.artifacts.manifest import Manifest
from pipelines.artifacts.store import Build
from pipelines.catalog import distributions
from pipelines.catalog.distributions import DISTRIBUTIONS
from pipelines.util import console, files

NAME = "sbom.cdx.json"
_PREFIX = "gpu-image"  # of properties, as https://github.com/CycloneDX/cyclonedx-property-taxonomy asks for one
_ELEMENT = "an element of diskimage-builder; its digest is over its files' paths, modes and contents, but for READMEs"


def write(folder: Path, made: Manifest) -> None:
    """Write the document beside the manifest."""
    files.write(folder / NAME, sbom(made))


def show(builds: Path, variant: str) -> None:
    """Print the document of the newest complete build; UsageError when there is none."""
    console.emit_json(json.loads(of_build(store.newest_complete(builds, variant))))


def of_build(build: Build) -> bytes:
    """A complete build's document, also where the build is older than these documents."""
    path = build.folder / NAME
    return path.read_bytes() if path.exists() else sbom(build.manifest())


def sbom(made: Manifest) -> bytes:
    """The document of a build, as JSON."""
    image, parts = _image(made), list(_parts(made))
    tools = [
        Component(name=name, version=version, type=ComponentType.APPLICATION) for name, version in made.tools.items()
    ]
    document = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{made.variant}/{made.build_id}/{made.artifact.sha256}"),
        metadata=BomMetaData(
            component=image,
            timestamp=datetime.fromisoformat(made.created_at),
            tools=ToolRepository(components=tools),
        ),
        components=parts,
    )
    document.register_dependency(image, parts)
    return f"{JsonV1Dot6(document).output_as_string(indent=2)}\n".encode()


def package_url(made: Manifest, name: str) -> str:
    """The purl of one of the image's packages (https://github.com/package-url/purl-spec, types deb and rpm).

    The architecture is left out where the manifest, of an older version, does not have it.
    """
    distribution = made.base["distribution"]
    bare, _, suffix = name.partition(":")  # dpkg's notation where several architectures can be installed
    epoch, _, version = made.packages[name].rpartition(":")
    known = {"arch": made.architectures.get(name, suffix), "distro": f"{distribution}-{_version(made)}"}
    is_deb = distributions.is_deb(distribution)
    if is_deb:
        epoch, version = "", made.packages[name]  # dpkg's epoch is a part of the version, rpm's a qualifier
    qualifiers = {key: value for key, value in {**known, "epoch": epoch}.items() if value}
    vendor = DISTRIBUTIONS[distribution].purl_vendor if distribution in DISTRIBUTIONS else distribution
    return PackageURL("deb" if is_deb else "rpm", vendor, bare, version, qualifiers).to_string()


def _image(made: Manifest) -> Component:
    artifact = made.artifact
    facts = {"fingerprint": made.fingerprint, "format": artifact.format}
    facts |= {"size": str(artifact.size), "virtual-size": str(artifact.virtual_size)}
    if "type" in made.base:
        facts["contents"] = "an imported image; only its publisher knows what is in it"
    hashes = [
        HashType(alg=HashAlgorithm.SHA_256, content=artifact.sha256),
        HashType(alg=HashAlgorithm.SHA_512, content=artifact.sha512),
    ]
    return _component(ComponentType.CONTAINER, "image", made.variant, made.build_id, facts, hashes=hashes)


def _parts(made: Manifest) -> Iterator[Component]:
    yield from _system(made)
    for name in made.packages:
        purl = PackageURL.from_string(package_url(made, name))
        yield Component(
            name=purl.name,
            version=made.packages[name],
            purl=purl,
            bom_ref=f"package:{name}",
            type=ComponentType.LIBRARY,
        )
    for name, digest in made.elements.items():
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
        yield _component(ComponentType.FILE, "element", name, hashes=hashes, description=_ELEMENT)
    for name, digest in made.inputs.items():
        yield _component(
            ComponentType.FILE, "input", name, hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)]
        )


def _system(made: Manifest) -> Iterator[Component]:
    """Distribution, kernel, driver and CUDA toolkit."""
    if made.base:
        yield _component(
            ComponentType.OPERATING_SYSTEM,
            "operating-system",
            made.base["distribution"],
            _version(made),
            {"architecture": made.base["architecture"]},
        )
    if made.kernel:
        yield _component(ComponentType.APPLICATION, "kernel", "linux", made.kernel)
    if made.driver:
        # The site's certificate would be too long for a property.
        facts = {name: made.driver[name] for name in ("modules", "source") if name in made.driver}
        yield _component(
            ComponentType.DEVICE_DRIVER, "driver", "nvidia-driver", made.driver.get("version"), facts, by_nvidia=True
        )
    if "toolkit" in made.cuda:
        yield _component(ComponentType.FRAMEWORK, "cuda", "cuda-toolkit", made.cuda["toolkit"], by_nvidia=True)


def _component(
    kind: ComponentType,
    role: str,
    name: str,
    version: str | None = None,
    facts: Mapping[str, str] | None = None,
    *,
    hashes: list[HashType] | None = None,
    description: str | None = None,
    by_nvidia: bool = False,
) -> Component:
    """A component other than a package; its reference within the document follows from its role and name."""
    return Component(
        type=kind,
        bom_ref=f"{role}:{name}",
        name=name,
        version=version,
        description=description,
        supplier=OrganizationalEntity(name="NVIDIA Corporation") if by_nvidia else None,
        hashes=hashes,
        properties=[Property(name=f"{_PREFIX}:{fact}", value=value) for fact, value in (facts or {}).items()],
    )


def _version(made: Manifest) -> str:
    """The distribution's version number: a manifest's release may be a code name."""
    return distributions.version(made.base["distribution"], made.base["release"])
