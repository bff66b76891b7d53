"""Where does a build happen?

In a folder of its own, which says from the first moment what became of it: running, failed or complete. One that failed
keeps its logs, and nothing else.
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

KEPT_FAILURES = 3


@contextmanager
def opened(root: Path, variant: str, build_id: str) -> Iterator[Path]:
    """A new folder of a build, with an empty `scratch` inside, while nobody else builds the variant.

    Afterwards its state says complete or failed, and the scratch space is gone. HostError when another process builds
    this variant, or the folder cannot be made.
    """
    disk_space.make(root)
    with store.lock(root, variant):
        _clean_leftovers(root, variant)
        folder = _new(root, variant, build_id)
        with _recorded(folder):
            yield folder


def artifact(path: Path) -> manifest.Artifact:
    """What the manifest says of a finished image file, which belongs to us from now on."""
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
    """Clean what crashed builds left; keep the logs of the last failures.

    Call it with the variant's lock held: then nothing that says running can be running.
    """
    for build in store.builds(root, variant):
        # Holding the lock makes a crashed build look like a running one.
        if build.state in {store.RUNNING, "leftover"}:
            _keep_only_logs(build.folder)  # first: on a full disk the state could not be written before
            store.set_state(build.folder, store.FAILED, "it was cut off before it ended")
    failed = [build for build in store.builds(root, variant) if build.state == store.FAILED]
    for build in failed[:-KEPT_FAILURES]:
        _remove(build.folder)


def _new(root: Path, variant: str, build_id: str) -> Path:
    folder = root / variant / build_id
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise HostError(f"{folder} is there already", remedy="Wait a second and run the command again.") from None
    store.set_state(folder, store.RUNNING, f"process {os.getpid()}")
    (folder / "scratch").mkdir()
    return folder


@contextmanager
def _recorded(folder: Path) -> Iterator[None]:
    """The folder's state says complete or failed afterwards, and its scratch space is gone."""
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
    """Remove a file or a tree, root's own included; the build's mounts ended with its namespace."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except PermissionError:
        process.run([*process.as_root(), "rm", "-rf", "--one-file-system", str(path)], deadline=300)
    except FileNotFoundError:
        return
