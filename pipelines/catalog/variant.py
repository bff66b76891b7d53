"""Variants: the classes that pydantic validates, the JSON Schema describes, and every other module reads.

loader.py makes variants from images.yaml; nothing else does.
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
    """How the image appears in the cloud. A change here does not build the image again."""

    name: types.ImageName = "{variant}"
    """The image's name in Glance, unique in a cloud; `{variant}` stands for the image's key in this file."""
    visibility: Literal["private", "shared", "community", "public"] = "private"
    """Who can see the image; public needs an administrator."""
    members: tuple[str, ...] = ()
    """IDs of the projects that a shared image is shared with."""
    tags: tuple[str, ...] = ()
    """Glance's tags."""
    protected: bool = False
    """Protect the image from being deleted."""
    min_ram: Annotated[int, Field(ge=1)] = 512
    """Minimum memory of a server, in MiB."""
    properties: Mapping[str, types.PropertyValue | None] = field(default_factory=dict)
    """Image properties besides those that are derived from the image; null removes a derived one."""


def _gpu(name: str) -> str:
    if name not in known():
        close = difflib.get_close_matches(name.lower(), known(), n=1)
        instead = f"did you mean {close[0]}?" if close else "`./inv gpus` lists them"
        raise ValueError(f"{name} is not a known GPU; {instead}")
    return name


def _artifact_format(name: object) -> object:
    if name == "raw":
        raise ValueError(
            "builds are always qcow2; for a cloud that needs raw, write `clouds: {NAME: {disk_format: raw}}`"
        )
    return name


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Disk:
    """The image's disk."""

    size: types.Size
    """Virtual size; the root file system grows to the server's disk at first boot."""
    format: Annotated[Literal["qcow2"], BeforeValidator(_artifact_format)] = "qcow2"
    """The build's format; for a cloud that needs raw it is converted at upload (`clouds`)."""
    compression: Literal["zstd", "zlib"] = "zstd"
    """zstd is faster and smaller; hypervisors need QEMU 5.1 or newer for it."""
    filesystem: Literal["ext4", "xfs"] = "ext4"
    """The root file system."""


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Kernel:
    """The guest's kernel."""

    flavour: Literal["generic", "cloud", "hwe"] = "generic"
    """Which of the distribution's kernels the guest boots."""


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Secret:
    """Where a secret is: in a file, a variable or a hardware token. It is bound into the build, and never copied."""

    file: types.LocalPath | None = None
    """A file with the secret, relative to this file's folder."""
    env: str | None = None
    """An environment variable with the secret."""
    pkcs11: types.Pkcs11 | None = None
    """For a key in a hardware token or HSM: its PKCS#11 URI, without the PIN."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.file, self.env, self.pkcs11)) != 1:
            raise ValueError("a secret has one source; write either `file`, `env` or `pkcs11`")
        return self


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Variant:
    """An image, with everything that it inherits."""

    name: str
    """The key under `images`: the image's name in commands, logs, folders and Glance."""
    description: str = ""
    """One line that describes the image; not inherited."""
    kind: Literal["build", "import"] = "build"
    """build: built by diskimage-builder; import: an existing image, from `source`."""
    base: Base | None = None
    """What the image is built from."""
    source: Source | None = None
    """The image of `kind: import`."""
    guest: Guest | None = None
    """Contents of the image of `kind: import`."""
    disk: Disk
    """Size and format of the disk."""
    kernel: Kernel = field(default_factory=Kernel)
    """The guest's kernel."""
    gpus: tuple[Annotated[str, AfterValidator(_gpu)], ...] = ()
    """GPU models or generations that the image must serve, in lower case: h100, blackwell (`./inv gpus` lists them)."""
    driver: Driver | None = None
    """The NVIDIA driver; without it, the image has no GPU support."""
    nvidia_repository: NvidiaRepository | None = None
    """NVIDIA's network repository, for packages that come from there."""
    cuda: Cuda = field(default_factory=Cuda)
    """CUDA's toolkit, libraries and samples."""
    containers: Engine | None = None
    """A container engine with the NVIDIA runtime."""
    elements: tuple[types.Element, ...] = ()
    """DIB elements besides those that follow from the other keys; appended to the parent's."""
    packages: tuple[types.Package, ...] = ()
    """Packages to install; appended to the parent's."""
    environment: Mapping[types.EnvironmentName, str] = field(default_factory=dict)
    """DIB_* variables for the elements. Never a secret: they are logged, and copied into the guest."""
    secrets: Mapping[SecretName, Secret] = field(default_factory=dict)
    """Secrets of the build, by name."""
    keep: Annotated[int, Field(ge=1)] = 2
    """How many good images are retained in each cloud, including the current one."""
    rebuild_age: types.Age | None = None
    """Build the image again when its newest build is older than this; null: never because of its age."""
    prune_after: types.Age = timedelta(days=3)
    """How long an image that exceeds `keep` stays hidden in a cloud before it is deleted."""
    glance: Glance = field(default_factory=Glance)
    """How the image appears in the cloud."""

    @model_validator(mode="after")
    def _has_an_origin(self) -> Self:
        if self.kind == "import":
            _imported(self)
        elif self.base is None:
            raise ValueError("this image has no base; write its `base`, or `abstract: true`")
        elif self.source or self.guest:
            raise ValueError("`source` and `guest` are for an imported image; write `kind: import`, or remove them")
        return self

    @model_validator(mode="after")
    def _gpus_are_served(self) -> Self:
        for key in ("gpus", "containers") if self.base is not None and not self.gpu else ():
            if getattr(self, key):
                raise ValueError(f"`{key}` needs a driver; write `driver`, or `{key}: null`")
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
        if self.nvidia_repository is None and (part := self._from_nvidia()):
            raise ValueError(
                f"{part} comes from NVIDIA's repository, which must be trusted by checksum; "
                "write `nvidia_repository: {keyring_sha256: …}`"
            )
        return self

    @model_validator(mode="after")
    def _signs_with_both(self) -> Self:
        if len(self.secrets) == 1:
            raise ValueError("modules are signed with a key and its certificate; write both under `secrets`")
        if any(secret.pkcs11 and name != "module-signing-key" for name, secret in self.secrets.items()):
            raise ValueError("a certificate is not in a token; write its `file` or `env`")
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
        """Driver branch, modules and toolkit for the GPUs; None without a driver. Impossible if there are none."""
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
        """The image properties in Glance, derived and declared; release/image_metadata.py adds the image's identity."""
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
        """The first part of the image that only NVIDIA's repository has."""
        parts = {
            "the driver (`source: nvidia-repo`)": self.driver is not None and self.driver.source == "nvidia-repo",
            "that CUDA toolkit": self.cuda.toolkit not in {None, "archive", "auto"},
            "cuDNN": self.cuda.cudnn,
            "NCCL": self.cuda.nccl,
            "the container toolkit": self.containers is not None,
        }
        return next((part for part, wanted in parts.items() if wanted), None)


def _imported(variant: Variant) -> None:
    if variant.source is None or variant.guest is None:
        raise ValueError("an imported image needs `source`, and `guest` for its contents")
    building = ("base", "driver", "elements", "packages", "environment", "secrets", "containers", "nvidia_repository")
    given = [key for key in building if getattr(variant, key)]
    given += ["kernel"] if variant.kernel != Kernel() else []
    given += ["cuda"] if variant.cuda != Cuda() else []
    if given:
        raise ValueError(f"an imported image is not changed; remove `{given[0]}`, or write null where it is inherited")
