"""Types of values in images.yaml: sizes, durations, names, URLs.

Each validates what is written, says what to write instead, and describes itself to editors. Values that come from
Python, already of the right type, pass as they are.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainValidator, ValidationInfo, WithJsonSchema

from pipelines.util import units, urls

_SMALLEST_DISK = 512 * 2**20  # partition table, ESP (128 MiB) and the least root file system that makes sense
_SECRET = re.compile(r"TOKEN|PASSW(OR)?D|PASSPHRASE|SECRET|CREDENTIAL|(^|_)(API)?KEYS?(_|$)")
# Variables that the pipeline sets for the elements, and the keys of images.yaml that they follow from.
_KEYS_OF_VARIABLES = {
    "DIB_RELEASE": "base.release",
    "DIB_BASE_IMAGE": "base.url",
    "DIB_BASE_DISTRIBUTION": "base.distribution",
    "DIB_GUEST_MIRROR": "base.guest_mirror",
    "DIB_KERNEL_FLAVOUR": "kernel.flavour",
    "DIB_NVIDIA_SOURCE": "driver.source",
    "DIB_NVIDIA_MODULES": "driver.modules",
    "DIB_NVIDIA_BRANCH": "driver.branch",
    "DIB_NVIDIA_VERSION": "driver.version",
    "DIB_NVIDIA_DESKTOP": "driver.desktop",
    "DIB_NVIDIA_RUNFILE": "driver.url",
    "DIB_NVIDIA_LOCAL": "driver.path",
    "DIB_NVIDIA_KEYRING": "nvidia_repository.keyring_url",
    "DIB_NVIDIA_REPOSITORY": "nvidia_repository.url",
    "DIB_CUDA_TOOLKIT": "cuda.toolkit",
    "DIB_CUDA_CUDNN": "cuda.cudnn",
    "DIB_CUDA_NCCL": "cuda.nccl",
    "DIB_CONTAINER_ENGINE": "containers",
    "DIB_GPT_DISK_SIZE": "disk.size",
    "DIB_GPT_DISK_ROOT_FSTYPE": "disk.filesystem",
    "DIB_GPU_IMAGE_VARIANT": "the image's name",
}


def _size(value: object, info: ValidationInfo) -> int:
    if info.mode == "python" and isinstance(value, int):
        return value
    size = units.parse_size(value)
    if size < _SMALLEST_DISK:
        raise ValueError('this is too small for an operating system; write at least "512MiB"')
    return size


def _age(value: object, info: ValidationInfo) -> timedelta:
    if info.mode == "python" and isinstance(value, timedelta):
        return value
    return units.parse_duration(value)


def property_text(value: object) -> str:
    """A property as Glance will hold it: YAML's true is "true", 2048 is "2048"."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int):
        return str(value)
    raise ValueError("a property is text, a whole number, true or false; write it in quotes")


def _local_path(value: object, info: ValidationInfo) -> Path:
    """A path as this host has it: what is relative in images.yaml is relative to its folder."""
    if info.mode == "python" and isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("this is not a valid path; write one, relative to this file's folder or absolute")
    folder = (info.context or {}).get("folder", Path())
    try:
        return Path(folder, Path(value).expanduser()).absolute()
    except RuntimeError:
        raise ValueError(f"this host has no such user as in {value}; write an absolute path") from None


def _place(value: object, info: ValidationInfo) -> str:
    """A folder or a URL; `builds` stands for the builds' own folder, wherever that is."""
    if not isinstance(value, str) or not value:
        raise ValueError("this is not a valid place; write builds, a folder, or a URL like s3://bucket/folder")
    if re.match(r"[^:/]+://([^/@]*:[^/]*@|.*\?)", value):
        raise ValueError(
            "a password or token is a secret; remove it, and set FSSPEC_<PROTOCOL>_<OPTION> or what the driver reads"
        )
    return value if value == "builds" or "://" in value else str(_local_path(value, info))


def _environment_name(name: str) -> str:
    if not re.fullmatch(r"DIB_[A-Z0-9_]+", name):
        raise ValueError("only variables of diskimage-builder are allowed here; write a name that starts with DIB_")
    if name in _KEYS_OF_VARIABLES:
        raise ValueError(f"this follows from {_KEYS_OF_VARIABLES[name]}; write it there")
    if _SECRET.search(name):
        raise ValueError(
            "this looks like a secret, and DIB writes its environment into logs and the image; remove it from the file"
        )
    return name


def _matching(pattern: str, otherwise: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(otherwise)
        return value

    return check


def _text(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^({pattern})$"})


def _without_password(url: str) -> str:
    if urls.has_password(url):
        raise ValueError("a password is a secret, and builds record their URLs; remove it (downloads read ~/.netrc)")
    return url


_VARIANT_NAME = r"[a-z0-9]+([.-][a-z0-9]+)*"
_PACKAGE = r"[a-z0-9][a-z0-9.+-]*"
_ELEMENT = r"[a-z0-9][a-z0-9._-]*"
_URL = r"(https?|file)://\S+"
_WEB_URL = r"https?://\S+"
_FILE_URL = r"(https?|file)://[^\s?#]*/[^\s?#/]*[^\s?#/.][^\s?#/]*([?#]\S*)?"
_STORE = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
_SHA256 = r"[0-9a-f]{64}"
_FINGERPRINT = r"[0-9A-F]{40}"
_DRIVER_VERSION = r"[0-9]{3,4}\.[0-9]+(\.[0-9]+)?"
_TOOLKIT = r"archive|auto|[0-9]+\.[0-9]+"


def _pkcs11(uri: str) -> str:
    if not uri.startswith("pkcs11:"):
        raise ValueError('this is not a valid PKCS#11 URI; write one like "pkcs11:token=images;object=modules"')
    if "pin-value" in uri:
        raise ValueError("a PIN is a secret; remove it from the file, and use pin-source or `env`")
    return uri


def _variant_name(name: str) -> str:
    if len(name) > 64 or not re.fullmatch(_VARIANT_NAME, name):
        raise ValueError(
            "this is not a valid name for an image; write lower-case letters and digits, "
            "with single hyphens or dots between them, 64 characters at most"
        )
    return name


def _stores(value: object) -> object:
    """A list; the word all becomes a list, too."""
    return tuple(value) if isinstance(value, list) else ("all",) if value == "all" else value


def _image_name(name: str) -> str:
    if re.search(r"[{}]", name.replace("{variant}", "")):
        raise ValueError("only {variant}, the key under `images`, can be in braces; remove the others")
    if not re.fullmatch(r"\S(.*\S)?", name) or not name.isprintable() or len(name) > 128:
        raise ValueError("this is not a valid name; write 1 to 128 printable characters, without a space at either end")
    return name


VariantName = Annotated[str, AfterValidator(_variant_name), _text(_VARIANT_NAME)]
ImageName = Annotated[str, AfterValidator(_image_name)]
_Store = Annotated[
    str,
    AfterValidator(
        _matching(_STORE, "this is not a valid store; write its ID, as `openstack image stores info` lists it")
    ),
]
Stores = Annotated[
    tuple[_Store, ...],
    BeforeValidator(_stores),
    WithJsonSchema({"anyOf": [{"const": "all"}, {"type": "array", "items": {"type": "string", "pattern": _STORE}}]}),
]
Size = Annotated[int, PlainValidator(_size), _text(units.SIZE_PATTERN)]
Age = Annotated[timedelta, PlainValidator(_age), _text(units.DURATION_PATTERN)]
EnvironmentName = Annotated[str, AfterValidator(_environment_name), _text("DIB_[A-Z0-9_]+")]
PropertyValue = Annotated[
    str, PlainValidator(property_text), WithJsonSchema({"type": ["string", "integer", "boolean"]})
]
Package = Annotated[
    str,
    AfterValidator(
        _matching(_PACKAGE, 'this is not a valid package name; write it as apt or dnf does, for example "htop"')
    ),
    _text(_PACKAGE),
]
Element = Annotated[
    str,
    AfterValidator(_matching(_ELEMENT, "this is not a valid element; write the name of its folder")),
    _text(_ELEMENT),
]
Url = Annotated[
    str,
    AfterValidator(_matching(_URL, "this is not a valid URL; write one that starts with https://")),
    AfterValidator(_without_password),
    _text(_URL),
]
WebUrl = Annotated[
    Url,
    AfterValidator(_matching(_WEB_URL, "this is not the URL of a web server; write one that starts with https://")),
    _text(_WEB_URL),
]
FileUrl = Annotated[
    Url,
    AfterValidator(_matching(_FILE_URL, "this URL names no file; write one that ends with the file's name")),
    _text(_FILE_URL),
]
Sha256 = Annotated[
    str,
    AfterValidator(_matching(_SHA256, "this is not a valid SHA-256; write its 64 lower-case hexadecimal digits")),
    _text(_SHA256),
]
Fingerprint = Annotated[
    str,
    AfterValidator(
        _matching(_FINGERPRINT, "this is not a valid fingerprint; write its 40 hexadecimal digits, in capitals")
    ),
    _text(_FINGERPRINT),
]
DriverVersion = Annotated[
    str,
    AfterValidator(
        _matching(_DRIVER_VERSION, 'this is not a valid driver version; write one in quotes, like "580.95.05"')
    ),
    _text(_DRIVER_VERSION),
]
Pkcs11 = Annotated[
    str,
    AfterValidator(_pkcs11),
    _text("pkcs11:.+"),
]
Place = Annotated[str, PlainValidator(_place), WithJsonSchema({"type": "string", "minLength": 1})]
LocalPath = Annotated[Path, PlainValidator(_local_path), WithJsonSchema({"type": "string", "minLength": 1})]
Toolkit = Annotated[
    str,
    AfterValidator(_matching(_TOOLKIT, 'write "archive", "auto", a version in quotes like "12.4", or null')),
    _text(_TOOLKIT),
]
