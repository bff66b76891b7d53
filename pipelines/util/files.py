"""Files: written whole or not at all, read, and digested.

A file is written under a temporary name in the same folder and then renamed: readers, and a crash, find the old one or
the new one.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

# libyaml's, where PyYAML was built with it: ten times as quick.
_PARSER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BLOCK = 2**20  # bytes


def write(path: Path, content: bytes) -> None:
    """Write or replace a file that all users may read; OSError when that fails."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def read_yaml(path: Path) -> Any:
    """The content of one of our own tables, which is not validated."""
    return yaml.load(path.read_bytes(), Loader=_PARSER)


def canonical_digest(value: object) -> str:
    """sha256 of a value's canonical JSON: sorted keys, no white space, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write a dataclass or JSON value so that no reader, and no crash, ever sees half of it."""
    plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    write(path, f"{json.dumps(plain, indent=2)}\n".encode())


def sha256(path: Path) -> str:
    """A file's sha256, hexadecimal; OSError when it cannot be read."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def digests(path: Path) -> tuple[str, str]:
    """A file's sha256 and sha512, hexadecimal, in one pass: side by side, while the next block is read."""
    totals = hashlib.sha256(), hashlib.sha512()
    with path.open("rb", buffering=0) as source, ThreadPoolExecutor(2) as cores:
        block = source.read(_BLOCK)
        while block:
            under_way = [cores.submit(each.update, block) for each in totals]
            block = source.read(_BLOCK)
            for each in under_way:
                each.result()
    return totals[0].hexdigest(), totals[1].hexdigest()
