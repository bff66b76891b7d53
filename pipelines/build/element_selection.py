"""Elements of a variant and their DIB_* variables, layer by layer, as they follow from its catalog fields."""

from collections.abc import Mapping

from pipelines.catalog.base import Base
from pipelines.catalog.distributions import DISTRIBUTIONS
from pipelines.catalog.driver import Driver
from pipelines.catalog.variant import Variant
from pipelines.util.errors import CatalogError

DRIVERS = {
    "archive": "nvidia-archive",
    "nvidia-repo": "nvidia-repository",
    "runfile": "nvidia-runfile",
    "local": "nvidia-local",
    "precompiled": "nvidia-precompiled",
}


def declared_base(variant: Variant) -> Base:
    """The base of a variant that is built; CatalogError when it has none."""
    if variant.base is None:
        raise CatalogError(f"{variant.name} has no base and cannot be built", remedy="Give it a base in images.yaml.")
    return variant.base


def elements(variant: Variant) -> dict[str, tuple[str, ...]]:
    """Layer → the elements that are requested; `elements.cumulative` adds what these need."""
    return {
        "base": (
            *_operating_system(declared_base(variant)),
            "cloud-guest",
            "grow-root",
            _kernel(variant),
            "boot-loader",
        ),
        "driver": tuple(_driver(variant)),
        "variant": (
            *(("container-toolkit",) if variant.containers else ()),
            *variant.elements,
            *("guest-identity", "gpt-disk", "seal-guest"),
        ),
    }


def environments(variant: Variant) -> dict[str, dict[str, str]]:
    """Layer → the variables of its elements, without the catalog's own `environment`, which any of them may read."""
    return {
        "base": _of_base(variant),
        "driver": _of_driver(variant),
        "variant": {
            "DIB_GPU_IMAGE_VARIANT": variant.name,
            "DIB_GPT_DISK_SIZE": str(variant.disk.size),
            **({"DIB_CONTAINER_ENGINE": variant.containers} if variant.containers else {}),
        },
    }


def _operating_system(base: Base) -> tuple[str, str]:
    distribution = DISTRIBUTIONS[base.distribution]
    start = distribution.bootstrap if base.source == "bootstrap" else "trusted-base"
    return start, distribution.family.element


def _kernel(variant: Variant) -> str:
    return "driver-prerequisites" if variant.gpu else "target-kernel"


def _driver(variant: Variant) -> list[str]:
    """The driver's elements, each after those that it builds on."""
    requested = {
        "nvidia-packages": variant.nvidia_repository is not None,
        DRIVERS.get(variant.driver.source if variant.driver else "", ""): variant.gpu,
        "fabric-manager": variant.gpu and variant.driver is not None and variant.driver.fabric_manager,
        "vgpu-guest": variant.driver is not None and variant.driver.vgpu,
        "cuda-toolkit": variant.cuda.toolkit is not None,
        "cuda-libraries": variant.cuda.cudnn or variant.cuda.nccl,
        "cuda-samples": variant.cuda.samples,
        "module-signing": bool(variant.secrets),
    }
    return [element for element, wanted in requested.items() if wanted]


def _of_base(variant: Variant) -> dict[str, str]:
    base = declared_base(variant)
    variables = {
        "DIB_RELEASE": base.codename,
        "DIB_KERNEL_FLAVOUR": variant.kernel.flavour,
        "DIB_GUEST_MIRROR": base.guest_mirror or "",
        "DIB_GPT_DISK_ROOT_FSTYPE": variant.disk.filesystem,  # the initramfs is for one
        "PYTHONHASHSEED": "0",  # DIB keeps its elements in a Python set
    }
    distribution = DISTRIBUTIONS[base.distribution]
    if distribution.components:
        variables["DIB_DEBIAN_COMPONENTS"] = distribution.driver_components if variant.gpu else distribution.components
    if base.source == "cloud-image":
        variables |= {"DIB_BASE_DISTRIBUTION": base.distribution, "DIB_BASE_VERSION": base.version}
    return variables


def _of_driver(variant: Variant) -> dict[str, str]:
    variables: dict[str, str] = {}
    if variant.driver is not None and variant.selection is not None:
        variables |= _of_modules(variant.driver, variant)
    if variant.nvidia_repository is not None:
        variables["DIB_NVIDIA_REPOSITORY"] = variant.nvidia_repository.address(declared_base(variant))
    if variant.toolkit is not None:
        variables |= {
            "DIB_CUDA_TOOLKIT": variant.toolkit,
            "DIB_CUDA_CUDNN": str(int(variant.cuda.cudnn)),
            "DIB_CUDA_NCCL": str(int(variant.cuda.nccl)),
        }
    return variables


def _of_modules(driver: Driver, variant: Variant) -> Mapping[str, str]:
    selection = variant.selection
    assert selection is not None  # the caller checked
    return {
        "DIB_NVIDIA_SOURCE": driver.source,
        "DIB_NVIDIA_MODULES": selection.modules,
        "DIB_NVIDIA_BRANCH": str(selection.branch or ""),
        "DIB_NVIDIA_VERSION": driver.version or "",
        "DIB_NVIDIA_DESKTOP": str(int(driver.desktop)),
    }
