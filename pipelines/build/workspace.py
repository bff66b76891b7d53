"""Folder of a build, whose state says from the start whether it is running, failed or complete.

Of a failed build only the logs stay.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.artifacts import manifest, store
from pipelines.diskimage import qemu_img
from pipelines.preflight import disk_space
from pipelines.util import files, process
from pipelines.util.errors import HostError

_FAILED_BUILDS = 3  # whose logs stay


@contextmanager
def opened(root: Path, variant: str, build_id: str) -> Iterator[Path]:
    """A new folder for a build, with an empty `scratch` inside; nothing else builds the variant meanwhile.

    Afterwards its state is complete or failed, and `scratch` is gone. HostError when another process is building this
    variant, or the folder cannot be made.
    """
    disk_space.make(root)
    with store.lock(root, variant):
        _clean_leftovers(root, variant)
        folder = _new(root, variant, build_id)
        with _recorded(folder):
            yield folder


def artifact(path: Path) -> manifest.Artifact:
    """A finished image file as the manifest describes it; the file becomes this user's."""
    if path.stat().st_uid != os.getuid():
        process.run([*process.as_root(), "chown", f"{os.getuid()}:{os.getgid()}", str(path)], deadline=60)
    info = qemu_img.info(path)
    sha256, sha512 = files.digests(path)
    return manifest.Artifact(
        path=path.name,
        format=info.format,
        size=path.stat().st_size,
        virtual_size=info.virtual_size,
        sha256=sha256,
        sha512=sha512,
    )


def _clean_leftovers(root: Path, variant: str) -> None:
    """Remove what crashed builds left, and all but the last failed builds.

    Call it with the variant's lock held: then no build whose state is running can still be running.
    """
    for build in store.builds(root, variant):
        # Holding the lock makes a crashed build look like a running one.
        if build.state in {store.RUNNING, "leftover"}:
            _keep_only_logs(build.folder)  # first: on a full disk the state could not be written before
            store.set_state(build.folder, store.FAILED, "the build was interrupted")
    failed = [build for build in store.builds(root, variant) if build.state == store.FAILED]
    for build in failed[:-_FAILED_BUILDS]:
        _remove(build.folder)


def _new(root: Path, variant: str, build_id: str) -> Path:
    folder = root / variant / build_id
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise HostError(f"{folder} exists already", remedy="Wait a second and run the command again.") from None
    store.set_state(folder, store.RUNNING, f"process {os.getpid()}")
    (folder / "scratch").mkdir()
    return folder


@contextmanager
def _recorded(folder: Path) -> Iterator[None]:
    """Set the folder's state to complete or failed afterwards, and remove its scratch folder."""
    try:
        yield
    except BaseException as error:
        _keep_only_logs(folder)  # first: on a full disk the state could not be written before
        store.set_state(folder, store.FAILED, getattr(error, "what", None) or type(error).__name__)
        raise
    _remove(folder / "scratch")
    store.set_state(folder, store.COMPLETE)


def _keep_only_logs(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name not in {"build.log", "state.json", "manifest.json", "verify.json"}:
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a file or a tree, also root's; the build's mounts ended with its namespace."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except PermissionError:
        process.run([*process.as_root(), "rm", "-rf", "--one-file-system", str(path)], deadline=300)
    except FileNotFoundError:
        return
