"""Virtual environments that hold exactly the packages of lock files, each checked against its digest.

`./inv` runs this module before anything is installed, so it needs the standard library alone. pip, which every Python
brings along, installs uv into a temporary environment, and uv installs the packages: neither is in the result. uv does
not read pip's configuration, so it is handed what concerns an index, certificates, proxies and the cache.
"""

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.util import pip_config, process
from pipelines.util.errors import HostError, ProgramError

UV_LOCK = Path(__file__).with_name("uv.txt")
STAMP = ".stamp"  # below the environment; written by the caller when all is installed

_SECONDS = 1800.0
_CONFIGURED = "`pip config list` shows what is configured"
# What pip and uv print, in words that only the failure in question has; the first that matches counts.
_REMEDIES = (
    (
        r"hash mismatch|do not match the hashes",
        "The index serves a different file than the lock file names. Use an index that serves the files of PyPI"
        f" unchanged ({_CONFIGURED}); if the lock file is out of date, run `./inv lock`.",
    ),
    (r"no space left|disk quota", "The disk is full: free some space, then run the command again."),
    (
        r"permission denied|read-only file system|operation not permitted",
        "Run the command as the user who owns this folder, or give this user write access to it.",
    ),
    (
        r"certificate",
        f"Name the file with your certificate authority: `pip config set global.cert FILE` ({_CONFIGURED}).",
    ),
    (
        r"\b40[13]\b|unauthorized|forbidden",
        f"The index refuses access: put the user and password into its URL or into ~/.netrc ({_CONFIGURED}).",
    ),
    (
        r"refused|dns error|name or service not known|name resolution|timed out|unreachable|tunnel error",
        "Check the network, the proxy and the index of Python packages: `pip config set global.index-url URL`"
        f" or `global.proxy URL` ({_CONFIGURED}).",
    ),
    (
        r"was not found|no version|no matching distribution|no usable wheels|no wheels|404",
        "The index lacks a package or version. Name one that has all of PyPI: "
        f"`pip config set global.index-url URL` ({_CONFIGURED}).",
    ),
)
_OTHERWISE = f"Check the network and the index of Python packages ({_CONFIGURED}), then run the command again."
_PIP_CAUSE = r"Failed to establish a new connection: [^')\n]*|certificate verify failed[^(')\n]*|Read timed out"
_MORE_INDEXES = {"UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS"}
_LEADS_ELSEWHERE = re.compile(
    r"PYTHON(PATH|HOME)|VIRTUAL_ENV|PIP_(TARGET|PREFIX|ROOT|REQUIREMENT)"
    r"|UV_(?!INDEX|DEFAULT_INDEX|EXTRA_INDEX|FIND_LINKS|NO_INDEX|INSECURE_HOST|HTTP_|CACHE_DIR|NO_CACHE|OFFLINE"
    r"|KEYRING_PROVIDER|SYSTEM_CERTS|NATIVE_TLS)"
)
# Test suites inside packages are a tenth of an environment, and nothing imports them.
_NOT_COMPILED = r"[/\\]tests?[/\\]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """uv, and the variables that make it use the index, the certificate and so on that pip is configured with."""

    uv: Path
    environment: Mapping[str, str]

    def main_index(self) -> Mapping[str, str]:
        """The variables without extra indexes and folders of files."""
        return {name: value for name, value in self.environment.items() if name not in _MORE_INDEXES}


def install(venv: Path, locks: Sequence[Path], *, build_lock: Path | None = None, keep: bool = False) -> None:
    """Make `venv` hold what the lock files name, and nothing else; HostError with the reason and a remedy.

    `build_lock` names, with digests, what a package is built with that comes as source. With `keep` an environment is
    changed where it differs, otherwise it is made again. A link is replaced: its target may be in use elsewhere.
    """
    options = ["--quiet", "--no-progress", "--color", "never", "--require-hashes", "--link-mode", "copy"]
    if build_lock is not None:
        options += ["--require-build-hashes", "--build-constraints", str(build_lock)]
    python = str(venv / "bin" / "python")
    try:
        if linked := venv.is_symlink():
            venv.unlink()
        with _unstamped(venv):
            if linked or not keep:
                _run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(venv)])
            with tools(venv / ".setup") as made:
                _sync(made, ["pip", "sync", "--python", python, *options, *map(str, locks)], venv.parent)
            _compile(python, venv / "lib")
    except OSError as error:
        raise _failure(f"{error.filename or venv}: {error.strerror}") from error


@contextlib.contextmanager
def tools(folder: Path) -> Iterator[Tools]:
    """uv in an environment of its own, for as long as it is needed.

    Its folder is not below /tmp, where a host may forbid programs to run.
    """
    pip = [str(folder / "bin" / "python"), "-m", "pip"]
    try:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        # The digest decides what is installed; a constraint of this host's would only contradict it.
        environment = {"PIP_RETRIES": "2"} | _environment() | {"PIP_CONSTRAINT": os.devnull, "PIP_USER": "0"}
        options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
        _run([*pip, "install", *options, "--require-hashes", "--requirement", str(UV_LOCK)], environment)
        settings = pip_config.settings(_listed_settings(pip))
        cache = process.run([*pip, "cache", "dir"], deadline=_SECONDS, env=_environment(), check=False)
        place = cache.stdout.strip() if cache.returncode == 0 else ""
        yield Tools(uv=folder / "bin" / "uv", environment=_environment() | pip_config.uv_environment(settings, place))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _listed_settings(pip: Sequence[str]) -> str:
    """`pip config list`; of a setting that several files have, the one that counts last."""
    listed = _run([*pip, "config", "list"])
    deciding = {name: _run([*pip, "config", "get", name]) for name in pip_config.ambiguous(listed)}
    return listed + "".join(f"{name}={value[:-1]!r}\n" for name, value in deciding.items())


@contextlib.contextmanager
def _unstamped(venv: Path) -> Iterator[None]:
    """No stamp says that an environment is complete while it is changed, or when that was cut off.

    A failure before the first change, of an index that does not answer for example, leaves what there was in use.
    """
    stamp, before = venv / STAMP, _packages_changed(venv)
    old = stamp.read_bytes() if stamp.exists() else None
    stamp.unlink(missing_ok=True)
    try:
        yield
    except BaseException:
        if old is not None and before is not None and before == _packages_changed(venv):
            stamp.write_bytes(old)
        raise


def _packages_changed(venv: Path) -> int | None:
    """When a package was last added or removed, in nanoseconds."""
    folders = [path.stat().st_mtime_ns for path in venv.glob("lib/python3*/site-packages")]
    return max(folders, default=None)


def _sync(made: Tools, arguments: Sequence[str], cwd: Path) -> None:
    """Run uv, a second time with the main index alone where there are others.

    uv takes a version's files from the first index that has any, which may have none for this Python; pip takes them
    from all.
    """
    try:
        _run([str(made.uv), *arguments], made.environment, cwd=cwd)
    except HostError:
        if made.main_index() == made.environment:
            raise
        with contextlib.suppress(HostError):
            _run([str(made.uv), *arguments], made.main_index(), cwd=cwd)
            return
        raise


def _compile(python: str, folder: Path) -> None:
    """Compile all modules now: users who cannot write here would do so again in each call.

    A file that another Python's syntax is in is no failure.
    """
    argv = [python, "-m", "compileall", "-q", "-j", "0", "-x", _NOT_COMPILED, str(folder)]
    process.run(argv, deadline=_SECONDS, env=_environment(), check=False)


def _environment() -> dict[str, str]:
    """Ours, with the operator's settings of pip and of uv's indexes; less what leads elsewhere or turns checks off."""
    passed = {name: value for name, value in os.environ.items() if not _LEADS_ELSEWHERE.match(name)}
    return passed | {"LC_ALL": "C.UTF-8"}


def _run(argv: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    try:
        return process.run(argv, deadline=_SECONDS, env=environment or _environment(), cwd=cwd).stdout
    except ProgramError as error:
        raise _failure(error.output) from error


def _failure(output: str) -> HostError:
    found = (remedy for words, remedy in _REMEDIES if re.search(words, output, re.IGNORECASE))
    return HostError(f"Python packages could not be installed: {_reason(output)}", remedy=next(found, _OTHERWISE))


def _reason(output: str) -> str:
    """The line that says what failed, and the deepest cause below it; of pip, why it reached no index."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error: ")]
    causes = [line.removeprefix("cause: ") for line in lines if line.startswith("cause: ")]
    causes += re.findall(_PIP_CAUSE, output)
    places = [line for line in causes[:-1] if line.startswith("Failed to fetch")]
    picked = [line[len("error: ") :] for line in errors[:1]] + places + causes[-1:]
    return ": ".join(picked) or " ".join(lines[-2:]) or "the reason is not known"


def main(arguments: Sequence[str]) -> int:
    """`[--keep] VENV LOCK…`, as `./inv` calls it: 0, or the exit code of an unfit host with the reason on stderr."""
    keep = arguments[0] == "--keep"
    venv, *locks = (Path(name) for name in arguments[keep:])
    try:
        install(venv, locks, keep=keep)
    except HostError as error:
        print(f"inv: error: {error.what}\ninv: remedy: {error.remedy}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
