"""What is a variant?

The one set of definitions behind images.yaml: what pydantic checks, what the JSON Schema is generated from, and the
values that every other module reads. catalog.py turns the file into these; nothing else makes them.
"""

import difflib
from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from pipelines.catalog import types
from pipelines.catalog.base import CONFIG, Base, Guest, Source
from pipelines.catalog.distributions import DISTRIBUTIONS
from pipelines.catalog.driver import Cuda, Driver, Engine, NvidiaRepository, unavailable
from pipelines.glance import properties as glance_properties
from pipelines.gpus.resolver import Request, Selection, known, resolve

SecretName = Literal["module-signing-key", "module-signing-certificate"]


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Glance:
    """How the image appears in the cloud. A change here needs no build."""

    name: types.ImageName = "{variant}"
    """What users find it by; `{variant}` stands for the image's key here. No two images of a cloud have the same."""
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
    properties: Mapping[str, types.PropertyValue | None] = field(default_factory=dict)
    """Image properties beside those that follow from the variant; null takes one of those away."""


def _gpu(name: str) -> str:
    if name not in known():
        close = difflib.get_close_matches(name.lower(), known(), n=1)
        instead = f"did you mean {close[0]}?" if close else "`./inv gpus` lists them"
        raise ValueError(f"{name} is no GPU that we know; {instead}")
    return name


def _kept_format(name: object) -> object:
    if name == "raw":
        raise ValueError("a build is kept as qcow2; write `clouds: {NAME: {disk_format: raw}}` for those who want raw")
    return name


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Disk:
    """The image's disk."""

    size: types.Size
    """Virtual size; the root file system grows to the server's disk at first boot."""
    format: Annotated[Literal["qcow2"], BeforeValidator(_kept_format)] = "qcow2"
    """The artifact's format; a cloud that wants raw gets it converted at upload (`clouds`)."""
    compression: Literal["zstd", "zlib"] = "zstd"
    """zstd is quicker and smaller; hypervisors read it from QEMU 5.1 on."""
    filesystem: Literal["ext4", "xfs"] = "ext4"
    """The root file system."""


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Kernel:
    """The guest's kernel."""

    flavour: Literal["generic", "cloud", "hwe"] = "generic"
    """Which of the distribution's kernels."""


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Secret:
    """Where a secret is: a file, a variable, a token of ours. It is bound into the build, and never written."""

    file: types.LocalPath | None = None
    """A file that holds it; relative to this file's folder."""
    env: str | None = None
    """An environment variable that holds it."""
    pkcs11: types.Pkcs11 | None = None
    """For a key: where a hardware token or HSM has it, as a PKCS#11 URI without its PIN."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.file, self.env, self.pkcs11)) != 1:
            raise ValueError("a secret is in one place; write either `file`, `env` or `pkcs11`")
        return self


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
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
    guest: Guest | None = None
    """What is in the ready image of `kind: import`."""
    disk: Disk
    """Size and format of the disk."""
    kernel: Kernel = field(default_factory=Kernel)
    """Which kernel the guest boots."""
    gpus: tuple[Annotated[str, AfterValidator(_gpu)], ...] = ()
    """GPU models or generations that the image must serve, in lower case: h100, blackwell (`./inv gpus` lists them)."""
    driver: Driver | None = None
    """The NVIDIA driver; without it, the image has no GPU support."""
    nvidia_repository: NvidiaRepository | None = None
    """NVIDIA's network repository, for what comes from there."""
    cuda: Cuda = field(default_factory=Cuda)
    """CUDA's toolkit, libraries and samples."""
    containers: Engine | None = None
    """A container engine with the NVIDIA runtime."""
    elements: tuple[types.Element, ...] = ()
    """DIB elements beside those that follow from the variant; appended to the parent's."""
    packages: tuple[types.Package, ...] = ()
    """Packages to install; appended to the parent's."""
    environment: Mapping[types.EnvironmentName, str] = field(default_factory=dict)
    """DIB_* variables for the elements. Never a secret: they are traced, and copied into the guest."""
    secrets: Mapping[SecretName, Secret] = field(default_factory=dict)
    """Secrets of the build, by name."""
    keep: Annotated[int, Field(ge=1)] = 2
    """How many good images stay in each cloud, the current one included."""
    rebuild_age: types.Age | None = None
    """Build again when the newest build is older; null: never for its age."""
    prune_after: types.Age = timedelta(days=3)
    """How long an image beyond `keep` stays hidden in a cloud before it is deleted."""
    glance: Glance = field(default_factory=Glance)
    """How the image appears in the cloud."""
    flavors: tuple[str, ...] = ()
    """Flavors that go with the image."""

    @model_validator(mode="after")
    def _has_an_origin(self) -> Self:
        if self.kind == "import":
            _imported(self)
        elif self.base is None:
            raise ValueError("this image is made from nothing; write its `base`, or `abstract: true`")
        elif self.source or self.guest:
            raise ValueError("`source` and `guest` are for a ready image; write `kind: import`, or remove them")
        return self

    @model_validator(mode="after")
    def _gpus_are_served(self) -> Self:
        for wish in ("gpus", "containers") if self.base is not None and not self.gpu else ():
            if getattr(self, wish):
                raise ValueError(f"without a driver no GPU works; write `driver`, or `{wish}: null`")
        _ = self.selection, self.toolkit
        return self

    @model_validator(mode="after")
    def _kernel_is_there(self) -> Self:
        flavours = DISTRIBUTIONS[self.base.distribution].kernels if self.base is not None else ()
        if self.base is not None and self.kernel.flavour not in flavours:
            what = f"{self.base.distribution} has no {self.kernel.flavour} kernel"
            raise ValueError(f"{what}; write `kernel: {{flavour: {' or '.join(flavours)}}}`")
        return self

    @model_validator(mode="after")
    def _packages_are_there(self) -> Self:
        if self.base and (what := unavailable(self.base.distribution, self.driver, self.cuda, self.containers)):
            raise ValueError(what)
        return self

    @model_validator(mode="after")
    def _repository_is_trusted(self) -> Self:
        if self.nvidia_repository is None and (wish := self._from_nvidia()):
            raise ValueError(
                f"{wish} comes from NVIDIA's repository, which must be trusted by checksum; "
                "write `nvidia_repository: {keyring_sha256: …}`"
            )
        return self

    @model_validator(mode="after")
    def _signs_with_both(self) -> Self:
        if len(self.secrets) == 1:
            raise ValueError("modules are signed with a key and its certificate; write both under `secrets`")
        if any(secret.pkcs11 and name != "module-signing-key" for name, secret in self.secrets.items()):
            raise ValueError("a certificate is no secret, and not on a token; write its `file` or `env`")
        if self.secrets and not self.gpu:
            raise ValueError("without a driver there is no module to sign; remove `secrets`")
        if self.secrets and self.driver is not None and self.driver.source == "precompiled":
            raise ValueError("precompiled modules are signed by their distribution; remove `secrets`")
        return self

    @property
    def image_name(self) -> str:
        """What users find the image by in Glance."""
        return self.glance.name.replace("{variant}", self.name)

    @property
    def gpu(self) -> bool:
        """Whether the image carries a GPU driver."""
        return self.driver is not None and self.driver.source != "none"

    @property
    def selection(self) -> Selection | None:
        """Driver branch, modules and toolkit that serve the GPUs; None without a driver. gpus.Impossible if none do."""
        if self.base is None or self.driver is None or not self.gpu:
            return None
        return resolve(self._request(self.base, self.driver))

    @property
    def toolkit(self) -> str | None:
        """The CUDA toolkit: "archive", or a version of NVIDIA's repository; an image without a driver may have one."""
        if self.base is None or self.cuda.toolkit is None:
            return None
        return (self.selection or resolve(self._request(self.base, Driver(source="none")))).toolkit

    @property
    def signed_modules(self) -> bool:
        """Whether a guest under Secure Boot accepts the driver: signed by the site's key, or by the distribution."""
        return bool(self.secrets) or (self.driver is not None and self.driver.source == "precompiled")

    @property
    def properties(self) -> dict[str, str]:
        """What Glance will hold, derived and declared; publish.py adds the image's identity."""
        together = self._derived_properties() | dict(self.glance.properties)
        return {name: value for name, value in together.items() if value is not None}

    def _derived_properties(self) -> dict[str, str]:
        if self.guest is not None:
            return glance_properties.derive_imported(
                os_type=self.guest.type,
                distribution=self.guest.distribution,
                version=self.guest.version,
                architecture=self.guest.architecture,
                gpu=bool(self.gpus),
            )
        if self.base is None:
            return {}
        return glance_properties.derive(
            distribution=self.base.distribution,
            version=self.base.version,
            architecture=self.base.architecture,
            gpu=self.gpu,
            packages=self.packages,
        )

    def _request(self, base: Base, driver: Driver) -> Request:
        auto = self.cuda.toolkit == "auto"
        return Request(
            gpus=self.gpus,
            distribution=base.distribution,
            release=base.codename,
            architecture=base.architecture,
            source=driver.source,
            branch=driver.branch,
            version=driver.version,
            modules=driver.modules,
            toolkit="archive" if auto and self.nvidia_repository is None else self.cuda.toolkit,
        )

    def _from_nvidia(self) -> str | None:
        """The first wish that only NVIDIA's repository can grant."""
        wishes = {
            "the driver (`source: nvidia-repo`)": self.driver is not None and self.driver.source == "nvidia-repo",
            "a toolkit's version": self.cuda.toolkit not in {None, "archive", "auto"},
            "cuDNN": self.cuda.cudnn,
            "NCCL": self.cuda.nccl,
            "the container toolkit": self.containers is not None,
        }
        return next((wish for wish, asked in wishes.items() if asked), None)


def _imported(variant: Variant) -> None:
    if variant.source is None or variant.guest is None:
        raise ValueError("an imported image needs its `source`, and its `guest`: what is in it")
    building = ("base", "driver", "elements", "packages", "environment", "secrets", "containers", "nvidia_repository")
    said = [key for key in building if getattr(variant, key)]
    said += ["kernel"] if variant.kernel != Kernel() else []
    said += ["cuda"] if variant.cuda != Cuda() else []
    if said:
        raise ValueError(
            f"an imported image is taken as it is; remove `{said[0]}`, or write null where it is inherited"
        )
