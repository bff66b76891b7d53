"""What is a variant?

The one set of definitions behind images.yaml: what pydantic checks, what the JSON Schema is generated from, and the
values that every other module reads. catalog.py turns the file into these; nothing else makes them.
"""

import difflib
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.dataclasses import dataclass

from pipelines import notation, properties

# Debian's archive has one driver per release; Ubuntu's has several.
ARCHIVE_BRANCHES: Mapping[str, int] = {"bookworm": 535, "trixie": 550}

_CONFIG = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)
# A release as images.yaml writes it → (code name, version number). A new release of a distribution is one line here.
RELEASES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "debian": {"bookworm": ("bookworm", "12"), "trixie": ("trixie", "13")},
    "ubuntu": {"22.04": ("jammy", "22.04"), "24.04": ("noble", "24.04"), "26.04": ("resolute", "26.04")},
}


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class Base:
    """What the image is made from."""

    distribution: Literal["debian", "ubuntu"]
    """The distribution."""
    release: str
    """The release, as the distribution's users say it: "trixie", "24.04" (in quotes)."""
    architecture: Literal["amd64", "arm64"] = "amd64"
    """The guest's processor."""
    source: Literal["bootstrap", "cloud-image"] = "bootstrap"
    """bootstrap: made from packages; cloud-image: the distribution's own image, from `url`."""
    url: notation.Url | None = None
    """Where the cloud image is."""
    sha256sums_url: notation.Url | None = None
    """Where the distribution publishes the image's checksum."""
    sha256: notation.Sha256 | None = None
    """The image's checksum, computed or read from a named source by whoever writes it here."""
    signed_by: str | None = None
    """Fingerprint of the key that signed the checksums."""
    guest_mirror: notation.Url | None = None
    """Package mirror of the guest, in place of the distribution's own."""

    @field_validator("release")
    @classmethod
    def _known_release(cls, release: str, info: ValidationInfo) -> str:
        known = RELEASES.get(info.data.get("distribution", ""), {release: ()})
        if release not in known:
            close = difflib.get_close_matches(release, known, n=1) or list(known)
            instead = " or ".join(f'"{each}"' for each in close)
            raise ValueError(f'{info.data["distribution"]} "{release}" is not known; write {instead}')
        return release

    @model_validator(mode="after")
    def _checked_download(self) -> Self:
        if self.source == "bootstrap":
            if self.url or self.sha256sums_url or self.sha256:
                raise ValueError("a bootstrapped base has no url and no checksum; write `source: cloud-image`")
        elif self.distribution == "debian":
            raise ValueError("Debian's cloud images are not supported yet; write `source: bootstrap`")
        elif not self.url:
            raise ValueError("a cloud image needs its `url`")
        elif not (self.sha256sums_url or self.sha256):
            raise ValueError("a download must be checked; write `sha256sums_url` or `sha256`")
        return self

    @property
    def codename(self) -> str:
        """The release's code name, as package sources and DIB_RELEASE have it: "trixie", "noble"."""
        return RELEASES[self.distribution][self.release][0]

    @property
    def version(self) -> str:
        """The release's number, as /etc/os-release has it: "13", "24.04"."""
        return RELEASES[self.distribution][self.release][1]

    def derived_properties(self, gpu: bool, packages: tuple[str, ...]) -> dict[str, str]:
        """The image properties that follow from the base."""
        return properties.derive(
            distribution=self.distribution,
            version=self.version,
            architecture=self.architecture,
            gpu=gpu,
            packages=packages,
        )


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class Disk:
    """The image's disk."""

    size: notation.Size
    """Virtual size; the root file system grows to the server's disk at first boot."""
    format: Literal["qcow2", "raw"] = "qcow2"
    """The artifact's format."""
    compression: Literal["zstd", "zlib"] = "zstd"
    """zstd is quicker and smaller; hypervisors read it from QEMU 5.1 on."""
    filesystem: Literal["ext4", "xfs"] = "ext4"
    """The root file system."""


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class Kernel:
    """The guest's kernel."""

    flavour: Literal["generic", "cloud", "hwe"] = "generic"
    """Which of the distribution's kernels."""


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class Driver:
    """The NVIDIA driver."""

    source: Literal["archive", "nvidia-repo", "runfile", "none"]
    """archive: the distribution's own packages; none: no driver."""
    modules: Literal["auto", "open", "proprietary"] = "auto"
    """Open kernel modules need a Turing GPU or newer; Maxwell, Pascal and Volta need the proprietary ones."""
    branch: Annotated[int, Field(ge=390, le=9999)] | None = None
    """Driver branch, for example 580; without it, the archive's own."""
    version: str | None = None
    """The exact driver version; without it, the newest of the branch."""


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class Cuda:
    """CUDA, beyond the driver's own libraries."""

    toolkit: notation.Toolkit | None = None
    """null: none; "archive": the distribution's package; or a version in quotes, "12.4"."""
    samples: bool = False
    """Build CUDA's samples (deviceQuery, nbody) into the image."""


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class Glance:
    """How the image appears in the cloud. A change here needs no build."""

    visibility: Literal["private", "shared", "community", "public"] = "private"
    """Who sees it; public needs an administrator."""
    members: tuple[str, ...] = ()
    """IDs of the projects that a shared image is shared with."""
    tags: tuple[str, ...] = ()
    """Glance's tags."""
    protected: bool = False
    """Refuse deletion."""
    min_ram: Annotated[int, Field(ge=1)] = 512
    """Smallest memory of a server, in MiB."""
    properties: Mapping[str, notation.PropertyValue | None] = field(default_factory=dict)
    """Image properties beside those that follow from the variant; null takes one of those away."""

    @model_validator(mode="after")
    def _members_of_shared(self) -> Self:
        if self.members and self.visibility != "shared":
            raise ValueError(f"members see nothing of a {self.visibility} image; write `visibility: shared`")
        return self


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class Secret:
    """Where a secret is: a file or a variable of ours. It is bound into the build, and never written."""

    file: str | None = None
    """A file that holds it."""
    env: str | None = None
    """An environment variable that holds it."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("a secret is in one place; write either `file` or `env`")
        return self


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class Source:
    """The ready image of `kind: import`."""

    path: str | None = None
    """A file on this host."""
    url: notation.Url | None = None
    """Where to download it."""
    sha256: notation.Sha256
    """Its checksum."""


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class Variant:
    """One image that we offer, with everything it inherits."""

    name: str
    """The key under `images`: its name in commands, logs, folders and Glance."""
    description: str = ""
    """One line for people; not inherited."""
    kind: Literal["build", "import"] = "build"
    """build: made by diskimage-builder; import: a ready image from `source`."""
    base: Base | None = None
    """What it is made from."""
    source: Source | None = None
    """The ready image of `kind: import`."""
    disk: Disk
    """Size and format of the disk."""
    kernel: Kernel = field(default_factory=Kernel)
    """Which kernel the guest boots."""
    gpus: tuple[str, ...] = ()
    """GPU models that the image must serve."""
    driver: Driver | None = None
    """The NVIDIA driver; without it, the image has no GPU support."""
    cuda: Cuda = field(default_factory=Cuda)
    """CUDA's toolkit and samples."""
    elements: tuple[notation.Element, ...] = ()
    """DIB elements beside those that follow from the variant; appended to the parent's."""
    packages: tuple[notation.Package, ...] = ()
    """Packages to install; appended to the parent's."""
    environment: Mapping[notation.EnvironmentName, str] = field(default_factory=dict)
    """DIB_* variables for the elements. Never a secret: they are traced, and copied into the guest."""
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """Secrets of the build, by name."""
    keep: Annotated[int, Field(ge=1)] = 2
    """How many good images stay in each cloud, the current one included."""
    rebuild_age: notation.Age | None = None
    """Build again when the newest build is older; null: never for its age."""
    glance: Glance = field(default_factory=Glance)
    """How the image appears in the cloud."""
    flavors: tuple[str, ...] = ()
    """Flavors that go with the image."""

    @model_validator(mode="after")
    def _has_an_origin(self) -> Self:
        if self.kind == "build" and self.base is None:
            raise ValueError("this image is made from nothing; write its `base`, or `abstract: true`")
        if self.kind == "import" and self.source is None:
            raise ValueError("an imported image needs its `source`")
        return self

    @model_validator(mode="after")
    def _archive_has_the_branch(self) -> Self:
        if self.base is None or self.driver is None or self.driver.source != "archive":
            return self
        only, branch = ARCHIVE_BRANCHES.get(self.base.codename), self.driver.branch
        if only is None and branch is None:
            raise ValueError(f"{self.base.codename}'s archive has several drivers; write `branch: 580` under `driver`")
        if only is not None and branch not in (None, only):
            raise ValueError(f"{self.base.codename}'s archive has driver {only} alone; remove `branch: {branch}`")
        return self

    @property
    def gpu(self) -> bool:
        """Whether the image carries a GPU driver."""
        return self.driver is not None and self.driver.source != "none"

    @property
    def properties(self) -> dict[str, str]:
        """What Glance will hold, derived and declared; publish.py adds the image's identity."""
        derived = self.base.derived_properties(self.gpu, self.packages) if self.base else {}
        together = derived | dict(self.glance.properties)
        return {name: value for name, value in together.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class Cloud:
    """What one cloud of clouds.yaml has otherwise than the images say."""

    disk_format: Literal["qcow2", "raw"] = "qcow2"
    """The format that the cloud wants; converted at upload."""
    glance: Glance = field(default_factory=Glance)
    """Merged over each image's own `glance`."""


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class CatalogFile:
    """What we offer: the images, and where they go."""

    version: Literal[1]
    """The version of this file's format."""
    records: str = "builds"
    """Where the small records of builds are kept: a folder."""
    clouds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per cloud of clouds.yaml, what differs there."""
    images: Mapping[notation.VariantName, Mapping[str, Any]]
    """The images, by name."""
