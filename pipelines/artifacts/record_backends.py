"""The places of build records: a folder, or a URL with an fsspec driver (s3://, gs://, abfs://, sftp:// and more).

Drivers raise any exception, and may quote the URL they were given: passwords are removed from all messages.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pipelines.util import files, paths, urls
from pipelines.util.errors import CatalogError, CloudError, HostError

DEADLINE_SECONDS = 120.0
_Result = TypeVar("_Result")
Key = tuple[str, str]  # a build's ID and a file's name
Contents = Mapping[Key, bytes | None]  # None: the file does not exist


class Folder:
    """Records in a folder on this host, which the first write creates."""

    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = root

    def build_ids(self, variant: str) -> Iterable[str]:
        """The builds that have a folder, complete or not."""
        with suppress(FileNotFoundError):
            return self._done(lambda: [each.name for each in (self._root / variant).iterdir() if each.is_dir()])
        return []

    def read(self, variant: str, keys: Sequence[Key]) -> Contents:
        """The files' contents."""
        return {key: self._content(self._root / variant / Path(*key)) for key in keys}

    def write(self, variant: str, build_id: str, name: str, content: bytes) -> None:
        """Write a file, which readers see whole or not at all."""
        folder = self._root / variant / build_id
        self._done(lambda: folder.mkdir(parents=True, exist_ok=True))
        self._done(lambda: files.write(folder / name, content))

    def _content(self, path: Path) -> bytes | None:
        with suppress(FileNotFoundError):
            return self._done(path.read_bytes)
        return None

    def _done(self, act: Callable[[], _Result]) -> _Result:
        try:
            return act()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise HostError(
                f"the records in {self.name} cannot be used: {error.strerror}: {error.filename}",
                remedy="Give this user access to the folder, or set `records` in images.yaml to another one.",
            ) from error


class Remote:
    """Records behind a URL. With some servers a file can be read before it is complete, and is not valid JSON then."""

    def __init__(self, url: str) -> None:
        self._hidden = urls.secrets(url)
        self.name = self._plain(url.partition("?")[0].rstrip("/"))
        self._files, self._root = self._opened(url)

    def build_ids(self, variant: str) -> Iterable[str]:
        """The builds that have a folder, complete or not."""
        listed = self._done(lambda: self._listed(f"{self._root}/{variant}"))
        return [each["name"].rstrip("/").rpartition("/")[2] for each in listed if each["type"] == "directory"]

    def read(self, variant: str, keys: Sequence[Key]) -> Contents:
        """The files' contents, fetched in parallel where the driver supports it."""
        paths = [f"{self._root}/{variant}/{build_id}/{name}" for build_id, name in keys]
        found = self._done(lambda: self._files.cat_ranges(paths, None, None, on_error="return")) if paths else []
        return dict(zip(keys, map(self._content, found), strict=True))

    def write(self, variant: str, build_id: str, name: str, content: bytes) -> None:
        """Write a file. Object stores show it when it is complete."""
        folder = f"{self._root}/{variant}/{build_id}"

        def write() -> None:
            self._files.makedirs(folder, exist_ok=True)
            self._files.pipe_file(f"{folder}/{name}", content)

        self._done(write)

    def _listed(self, folder: str) -> list[Mapping[str, Any]]:
        self._files.invalidate_cache()  # others write too
        try:
            listed: list[Mapping[str, Any]] = self._files.ls(folder, detail=True)
        except FileNotFoundError:
            return []
        return listed

    def _content(self, found: bytes | Exception) -> bytes | None:
        if isinstance(found, bytes):
            return found
        if isinstance(found, FileNotFoundError):
            return None
        raise self._unusable(found)

    def _opened(self, url: str) -> tuple[Any, str]:
        """fsspec's file system, and the path in it."""
        import fsspec  # noqa: PLC0415  # as slow to import as all of our own; most records are in a folder
        from fsspec.registry import known_implementations  # noqa: PLC0415

        try:
            opened, root = self._done(lambda: fsspec.url_to_fs(url), (ImportError, ValueError))
        except ImportError as error:
            driver = known_implementations.get(url.partition("://")[0], {}).get("class", "").partition(".")[0]
            package = driver if driver not in {"", "fsspec"} else "PACKAGE, with the package that it names"
            raise HostError(
                f"records in {self.name} need a driver that is not installed: {self._plain(str(error))}",
                remedy=f"Run `pip install {package}`."
                if paths.INSTALLED
                else f"Add {package} to requirements/site.in, run `./inv lock`, then run this command again.",
            ) from None
        except ValueError as error:
            raise CatalogError(
                f"records: {self.name} cannot be used: {self._plain(str(error))}",
                remedy="Write builds, a folder, or a URL that fsspec supports, such as s3://bucket/folder.",
            ) from None
        return opened, root.rstrip("/")

    def _done(self, act: Callable[[], _Result], passed: tuple[type[Exception], ...] = ()) -> _Result:
        """Do it within the deadline. What the driver raises becomes a CloudError, except what is `passed` on."""
        outcome: list[_Result | BaseException] = []

        def run() -> None:
            try:
                outcome.append(act())
            except BaseException as error:  # raised below, in the calling thread
                outcome.append(error)

        # Not every driver has deadlines of its own. An abandoned thread does not outlive the process.
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(DEADLINE_SECONDS)
        result = outcome[0] if outcome else TimeoutError(f"no answer within {DEADLINE_SECONDS:g} s")
        if isinstance(result, passed):
            raise result
        if isinstance(result, BaseException):
            raise self._unusable(result)
        return result

    def _unusable(self, error: BaseException) -> CloudError:
        reason = self._plain(str(error)) or type(error).__name__
        return CloudError(
            f"the records in {self.name} cannot be used: {reason}",
            remedy="Check that it exists, that this host can reach it, and that your credentials give access to it."
            " fsspec's drivers read credentials from their usual places and from FSSPEC_<PROTOCOL>_<OPTION> variables.",
        )

    def _plain(self, text: str) -> str:
        for secret in self._hidden:
            text = text.replace(secret, "***")
        return text
