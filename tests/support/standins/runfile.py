"""Test double of NVIDIA's .run file: a shell script with a whole driver after its last line."""

import io
import tarfile
from pathlib import Path, PurePosixPath

from tests.support.standins import driver


def runfile(folder: Path, version: str = driver.VERSION) -> Path:
    """NVIDIA-Linux-x86_64-<version>.run in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"NVIDIA-Linux-x86_64-{version}.run"
    payload = io.BytesIO()
    with tarfile.open(fileobj=payload, mode="w:gz", compresslevel=1) as tar:
        for modules in driver.LICENCES:
            for name, text in driver.source_files(version=version, modules=modules).items():
                _add(tar, f"{modules}/{PurePosixPath(name).name}", text)
        for program in ("nvidia-smi", "nvidia-modprobe", "nvidia-persistenced"):
            _add(tar, f"files/usr/bin/{program}", driver.text(program))
        for library in ("libcuda", "libnvidia-ml"):
            files, links = driver.library(library, version)
            for name, content in files.items():
                _add(tar, f"files{name}", content)
            for name, target in links.items():
                link = tarfile.TarInfo(f"files{name}")
                link.type, link.linkname = tarfile.SYMTYPE, target
                tar.addfile(link)
    path.write_bytes(driver.text("installer", version=version).encode() + payload.getvalue())
    path.chmod(0o755)
    return path


def _add(tar: tarfile.TarFile, name: str, content: str | bytes) -> None:
    data = content.encode() if isinstance(content, str) else content
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o755 if data.startswith(b"#!") else 0o644
    tar.addfile(entry, io.BytesIO(data))
