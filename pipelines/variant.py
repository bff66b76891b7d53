"""What is a variant?

The one set of definitions behind images.yaml: what pydantic checks, what the JSON Schema is generated from, and the
values that every other module reads. catalog.py turns the file into these; nothing else makes them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic.dataclasses import dataclass

from pipelines import properties

_CONFIG = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)
_GIB = 2**30
_UNITS = {"MiB": 2**20, "GiB": _GIB, "TiB": 2**40}
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}
_SECRET_WORD = re.compile(
    r"TOKEN|PASSW(OR)?D|PASSPHRASE|SECRET|CREDENTIAL|(^|_)(API|PRIVATE|ACCESS|SIGNING)?KEYS?(_|$)"
)

# A release as images.yaml writes it → (code name, version number). A new release of a distribution is one line here.
RELEASES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "debian": {"bookworm": ("bookworm", "12"), "trixie": ("trixie", "13")},
    "ubuntu": {"22.04": ("jammy", "22.04"), "24.04": ("noble", "24.04"), "26.04": ("resolute", "26.04")},
}


def _size(value: object) -> int:
    match = re.fullmatch(r"([1-9]\d*)(MiB|GiB|TiB)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('this is no size; write a number and MiB, GiB or TiB, for example "20GiB"')
    return int(match[1]) * _UNITS[match[2]]


def _age(value: object) -> timedelta:
    match = re.fullmatch(r"([1-9]\d*)([hdw])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('this is no duration; write hours, days or weeks, for example "36h", "7d" or "2w"')
    return timedelta(hours=int(match[1]) * _HOURS[match[2]])


def _environment_name(name: str) -> str:
    if not re.fullmatch(r"DIB_[A-Z0-9_]+", name):
        raise ValueError("only variables of diskimage-builder belong here; write a name that starts with DIB_")
    if _SECRET_WORD.search(name):
        raise ValueError("this name looks like a secret, and DIB writes its environment into the image; use `secrets`")
    return name


def _property_value(value: object) -> str:
    """A property as Glance will hold it: YAML's true is "true", 2048 is "2048"."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int):
        return str(value)
    raise ValueError("a property is text, a whole number, true or false; write it in quotes")


def _matches(pattern: str, otherwise: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(otherwise)
        return value

    return check


def _written(kind: str, pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, "pattern": pattern, "examples": list(examples)})


_PLAIN_NAME = "[a-z0-9][a-z0-9.+-]*"
Size = Annotated[int, PlainValidator(_size), _written("string", "^[1-9][0-9]*(MiB|GiB|TiB)$", "20GiB")]
Age = Annotated[timedelta, PlainValidator(_age), _written("string", "^[1-9][0-9]*[hdw]$", "7d", "36h")]
Package = Annotated[
    str,
    AfterValidator(_matches(_PLAIN_NAME, 'this is no package name; write it as apt does, for example "htop"')),
    _written("string", f"^{_PLAIN_NAME}$"),
]
Element = Annotated[
    str,
    AfterValidator(_matches("[a-z0-9][a-z0-9_.-]*", "this is no element's name; write the name of its folder")),
    _written("string", "^[a-z0-9][a-z0-9_.-]*$"),
]
EnvironmentName = Annotated[str, AfterValidator(_environment_name)]
PropertyValue = Annotated[
    str, PlainValidator(_property_value), WithJsonSchema({"type": ["string", "integer", "boolean"]})
]
Url = Annotated[
    str,
    AfterValidator(_matches(r"(https?|file)://\S+", "this is no URL; write one that begins with https://")),
    _written("string", "^(https?|file)://\\S+$"),
]
Sha256 = Annotated[
    str,
    AfterValidator(_matches("[0-9a-f]{64}", "this is no SHA-256; write its 64 lower-case hexadecimal digits")),
    _written("string", "^[0-9a-f]{64}$"),
]


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
    url: Url | None = None
    """Where the cloud image is."""
    sha256sums_url: Url | None = None
    """Where the distribution publishes the image's checksum."""
    sha256: Sha256 | None = None
    """The image's checksum, computed or read from a named source by whoever writes it here."""
    signed_by: str | None = None
    """Fingerprint of the key that signed the checksums."""
    guest_mirror: Url | None = None
    """Package mirror of the guest, in place of the distribution's own."""

    @model_validator(mode="after")
    def _known_release(self) -> Self:
        if self.release not in RELEASES[self.distribution]:
            known = ", ".join(f'"{release}"' for release in RELEASES[self.distribution])
            raise ValueError(f'{self.distribution} "{self.release}" is not known; write one of {known} as release')
        return self

    @model_validator(mode="after")
    def _checked_download(self) -> Self:
        if self.source == "bootstrap":
            if self.url or self.sha256sums_url or self.sha256:
                raise ValueError("a bootstrapped base has no url and no checksum; write `source: cloud-image`")
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


@dataclass(frozen=True, kw_only=True, slots=True, config=_CONFIG)
class Disk:
    """The image's disk."""

    size: Size
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

    toolkit: Annotated[
        str | None,
        AfterValidator(lambda v: v if v is None else _matches(r"archive|\d+\.\d+", _TOOLKIT)(v)),
    ] = None
    """null: none; "archive": the distribution's package; or a version in quotes, "12.4"."""
    samples: bool = False
    """Build CUDA's samples (deviceQuery, nbody) into the image."""


_TOOLKIT = 'write "archive", a version in quotes like "12.4", or null'


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
    properties: Mapping[str, PropertyValue] = field(default_factory=dict)
    """Image properties beside those that follow from the variant."""

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
    url: Url | None = None
    """Where to download it."""
    sha256: Sha256
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
    """The image's disk."""
    kernel: Kernel = field(default_factory=Kernel)
    """The guest's kernel."""
    gpus: tuple[str, ...] = ()
    """GPU models that the image must serve."""
    driver: Driver | None = None
    """The NVIDIA driver; without it, the image has no GPU support."""
    cuda: Cuda = field(default_factory=Cuda)
    """CUDA, beyond the driver's own libraries."""
    elements: tuple[Element, ...] = ()
    """DIB elements beside those that follow from the variant; appended to the parent's."""
    packages: tuple[Package, ...] = ()
    """Packages to install; appended to the parent's."""
    environment: Mapping[EnvironmentName, str] = field(default_factory=dict)
    """DIB_* variables for the elements. Never a secret: they are traced, and copied into the guest."""
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """Secrets of the build, by name."""
    keep: Annotated[int, Field(ge=1)] = 2
    """How many good images stay in each cloud, the current one included."""
    rebuild_age: Age | None = None
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

    @property
    def gpu(self) -> bool:
        """Whether the image carries a GPU driver."""
        return self.driver is not None and self.driver.source != "none"

    @property
    def min_disk(self) -> int:
        """Glance's min_disk: the virtual size in GiB, rounded up."""
        return -(-self.disk.size // _GIB)

    @property
    def properties(self) -> dict[str, str]:
        """What Glance will hold, derived and declared; publish.py adds the image's identity."""
        return derived_properties(self.base, self.gpu, self.packages) | dict(self.glance.properties)


def derived_properties(base: Base | None, gpu: bool, packages: tuple[str, ...]) -> dict[str, str]:
    """The properties that follow from a variant; those of an imported image are declared."""
    if base is None:
        return {}
    return properties.derive(
        distribution=base.distribution,
        version=base.version,
        architecture=base.architecture,
        gpu=gpu,
        packages=packages,
    )
