"""Phases that run on the build host, and the programs that read what they made."""

import os
import subprocess
from pathlib import Path

from tests.support.paths import ELEMENTS


def output(*argv: str | Path) -> str:
    environment = os.environ | {"MTOOLS_SKIP_CHECK": "1", "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    return subprocess.run(argv, capture_output=True, text=True, check=True, env=environment).stdout


def run_on_host(script: Path, *, check: bool = True, **environment: str | Path) -> "subprocess.CompletedProcess[str]":
    values = {name: str(value) for name, value in environment.items()}
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return subprocess.run(
        ["bash", script],
        env={"PATH": path, "LC_ALL": "C", **values},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=check,
        timeout=60,
    )


def assembled(tmp_path: Path, tree: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "host-bin").symlink_to(ELEMENTS / "gpt-disk/host-bin")
    defaults = {
        "DIB_GPT_DISK_SIZE": "2G",
        "DIB_GPT_DISK_ROOT_FSTYPE": "ext4",
        "DIB_GPT_DISK_ROOT_LABEL": "cloudimg-rootfs",
        "DISTRO_NAME": "debian",
        "ARCH": "amd64",
    }
    paths = {"TMP_IMAGE_DIR": tmp_path, "TMP_MOUNT_PATH": tree, "TMP_HOOKS_PATH": hooks, "TMP_DIR": tmp_path}
    paths["DIB_MANIFEST_SAVE_DIR"] = tmp_path
    return run_on_host(
        ELEMENTS / "gpt-disk/cleanup.d/98-assemble-disk", check=False, **{**defaults, **paths, **environment}
    )
