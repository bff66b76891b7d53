"""Sections `driver`, `cuda` and `nvidia_repository` of images.yaml, each validated alone.

Whether they serve the GPUs is the answer of gpus/resolver.py; whether they fit together, of variant.py.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from pipelines.catalog import types
from pipelines.catalog.base import CONFIG, Base
from pipelines.catalog.distributions import DISTRIBUTIONS

Engine = Literal["docker", "podman"]
_NVIDIA = "https://developer.download.nvidia.com/compute/cuda/repos"
_NVIDIA_MACHINES = {"amd64": "x86_64", "arm64": "sbsa"}


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Driver:
    """The NVIDIA driver."""

    source: Literal["archive", "nvidia-repo", "runfile", "local", "precompiled", "none"]
    """archive: the distribution's own packages; nvidia-repo: NVIDIA's network repository; runfile: NVIDIA's installer;
    local: a folder of packages; precompiled: modules that the distribution compiled and signed; none: no driver."""
    modules: Literal["auto", "open", "proprietary"] = "auto"
    """Open kernel modules need a Turing GPU or newer; Maxwell, Pascal and Volta need the proprietary ones. auto: what
    the `gpus` need."""
    branch: Annotated[int, Field(ge=390, le=9999)] | None = None
    """Driver branch, for example 580; by default the archive's own, or the best one that serves the `gpus`."""
    version: types.DriverVersion | None = None
    """Exact driver version; by default the newest of the branch."""
    desktop: bool = False
    """Also install OpenGL, Vulkan and X11, for virtual workstations; by default compute only."""
    url: types.FileUrl | None = None
    """runfile: its URL."""
    path: types.LocalPath | None = None
    """runfile: the file; local: the folder of packages. Relative to this file's folder."""
    sha256: types.Sha256 | None = None
    """runfile: its SHA-256."""
    fabric_manager: bool = False
    """Install NVIDIA's fabric manager of exactly the driver's version, without enabling it."""
    vgpu: bool = False
    """The driver is a guest driver for vGPU, licensed at first boot by a token that is not in the image."""

    @model_validator(mode="after")
    def _fits_its_source(self) -> Self:
        given = [name for name in ("url", "path", "sha256") if getattr(self, name) is not None]
        match self.source:
            case "runfile":
                _runfile(self)
            case "local":
                if given != ["path"]:
                    raise ValueError("local packages are in a folder; write its `path`, and no url or sha256")
            case _ if given:
                raise ValueError(f"`{given[0]}` is for `source: runfile` or `local`; remove it")
        if self.vgpu and self.source not in {"local", "runfile"}:
            raise ValueError(
                "vGPU guest drivers come from NVIDIA's licensing portal; write `source: local` or `runfile`"
            )
        if self.desktop and self.source == "precompiled":
            raise ValueError("precompiled modules are for compute only; remove `desktop`, or write `source: archive`")
        if self.version and self.source in {"archive", "precompiled"}:
            raise ValueError(f"`source: {self.source}` has only one version of a branch; remove `version`")
        if self.fabric_manager and self.source == "runfile":
            raise ValueError("a runfile has no fabric manager of its version; write `source: nvidia-repo` or `local`")
        if self.branch and self.version and not self.version.startswith(f"{self.branch}."):
            raise ValueError(f"version {self.version} is not of branch {self.branch}; remove one of them")
        return self


def _runfile(driver: Driver) -> None:
    if (driver.url is None) == (driver.path is None):
        raise ValueError("a runfile has one source; write either its `url`, or the `path` of a local file")
    if driver.sha256 is None:
        raise ValueError("a runfile must be checked; write its `sha256`")
    if driver.version is None:
        raise ValueError('a runfile has one version; write `version: "580.95.05"`, as in its name')


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Cuda:
    """CUDA, beyond the driver's own libraries."""

    toolkit: types.Toolkit | None = None
    """null: none; "archive": the distribution's package; a version in quotes, "12.8": that of NVIDIA's repository;
    "auto": the newest that fits the driver and the GPUs, from NVIDIA's repository, or the archive's without it."""
    samples: bool = False
    """Build CUDA's samples (deviceQuery, nbody) into the image; needs a toolkit."""
    cudnn: bool = False
    """cuDNN, from NVIDIA's repository, for the toolkit's CUDA."""
    nccl: bool = False
    """NCCL, for the toolkit's CUDA."""

    @model_validator(mode="after")
    def _on_a_toolkit(self) -> Self:
        for key in ("samples", "cudnn", "nccl"):
            if getattr(self, key) and self.toolkit is None:
                raise ValueError(f"`{key}` needs a CUDA toolkit; write `toolkit: archive` or a version")
        return self


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class NvidiaRepository:
    """NVIDIA's network repository, and the key by which it is trusted."""

    keyring_sha256: types.Sha256
    """SHA-256 of the file with the repository's key, which you computed or read from a source that you trust. On Debian
    and Ubuntu the file is the package cuda-keyring, on Rocky Linux, AlmaLinux and RHEL the public key itself."""
    keyring_url: types.FileUrl | None = None
    """URL of that file; by default the one in the repository."""
    url: types.Url | None = None
    """URL of a mirror, instead of NVIDIA's own repository."""

    def address(self, base: Base) -> str:
        """The repository's URL."""
        return self.url or _official(base)

    def keyring(self, base: Base) -> str:
        """The URL of the file with its key."""
        return self.keyring_url or f"{self.address(base)}/{base.details.nvidia_keyring}"


def unavailable(distribution: str, driver: Driver | None, cuda: Cuda, containers: Engine | None) -> str | None:
    """What a distribution has no package for, and what to write instead; None where it has everything."""
    found = DISTRIBUTIONS[distribution]
    if containers == "docker" and not found.has("docker"):
        return f"{found.label} has no Docker package; write `containers: podman`"
    if cuda.samples and not found.has("cuda-samples"):
        return f"{found.label}'s archive has no sources of CUDA's samples; write `samples: false`"
    from_archive = driver is not None and driver.source == "archive" and driver.fabric_manager
    if from_archive and not found.has("fabric-manager"):
        return f"{found.label}'s archive has no fabric manager; write `source: nvidia-repo`"
    return None


def _official(base: Base) -> str:
    """NVIDIA's own repository for a release: .../ubuntu2404/x86_64, .../rhel9/sbsa."""
    return f"{_NVIDIA}/{base.details.nvidia_repository}/{_NVIDIA_MACHINES[base.architecture]}"
