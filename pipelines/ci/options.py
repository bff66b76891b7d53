"""Request for a scheduled refresh, from the options of `inv ci`.

Names in the files of a CI system are read there by YAML, a shell, and the system's own expressions. So only plain words
are accepted, which none of these takes for anything else.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from pipelines.catalog.loader import Catalog
from pipelines.util import units
from pipelines.util.errors import UsageError

System = Literal["github", "gitlab", "zuul", "systemd"]

# At night, and not on the hour, when most other jobs start.
_DEFAULT_SCHEDULES = {"github": "17 2 * * *", "systemd": "*-*-* 02:17:00"}
_SCHEDULED_ELSEWHERE = {
    "gitlab": "Schedules of GitLab are outside of the file: Build > Pipeline schedules, or its API.",
    "zuul": "Zuul has its times in the tenant's configuration of pipelines; the jobs are in `periodic`.",
}
_DEFAULT_LIMIT = "4GiB"
_CRON_FIELD = r"(\*|[0-9A-Z]+(-[0-9A-Z]+)?)(/[0-9]+)?"
_CRON = rf"{_CRON_FIELD}(,{_CRON_FIELD})*"
_PATTERNS = {
    "cloud": r"[A-Za-z0-9][A-Za-z0-9._-]*",
    "runner": r"[A-Za-z0-9][A-Za-z0-9._-]*",
    "secret": r"[A-Z][A-Z0-9_]*",
    "catalog": r"[A-Za-z0-9_./][A-Za-z0-9_./-]*",
    "project's folder": r"/[A-Za-z0-9_./ +@-]*",
    "schedule of github": rf"{_CRON}( {_CRON}){{4}}",
    "schedule of systemd": r"[A-Za-z0-9*][A-Za-z0-9*,./:~ -]*",
}
_REMEDIES = {
    "secret": "Write the name of an environment variable, in capitals.",
    "schedule of github": "Write the five fields of cron, such as '17 2 * * *'.",
    "schedule of systemd": "Write what `systemd-analyze calendar` takes, such as '*-*-* 02:17:00'.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A scheduled refresh: which images, on which clouds, when and where. All words are safe in YAML and in a shell.

    `runner` are labels (GitHub, Zuul) or tags (GitLab) of machines; empty means the system's default. `secrets` and
    `keys` are environment variables from the secrets of the CI system: the former for every command, the latter those
    that images.yaml names, for builds alone. `catalog` is None for the project's own. `options` are those of `inv ci`
    that make the same files again.
    """

    system: System
    clouds: tuple[str, ...]
    variants: tuple[str, ...]
    schedule: str
    runner: tuple[str, ...]
    secrets: tuple[str, ...]
    keys: tuple[str, ...]
    cache_limit: str
    catalog: str | None
    project: str
    options: tuple[str, ...]

    @property
    def on_clouds(self) -> tuple[str, ...]:
        """The options of `plan` and `refresh` for the clouds and the catalog."""
        clouds = [word for cloud in self.clouds for word in ("--cloud", cloud)]
        return (*clouds, *(("--catalog", self.catalog) if self.catalog else ()))

    @property
    def again(self) -> str:
        """The command that makes the same files, as a line for a shell."""
        return shlex.join(["./inv", "ci", "--for", self.system, *self.options])


def request(
    catalog: Catalog,
    system: str,
    clouds: Iterable[str],
    *,
    project: Path,
    schedule: str | None = None,
    runner: Iterable[str] = (),
    secret: Iterable[str] = (),
    cache_limit: str | None = None,
    catalog_path: str | None = None,
) -> Request:
    """The request of the options of `inv ci`; UsageError for a value that no file could hold safely."""
    known = _system(system)
    names, labels, secrets = (_words(kind, given) for kind, given in _given(clouds, runner, secret))
    if not names:
        raise UsageError("no cloud is given", remedy="Write --cloud NAME, once for each cloud.")
    if catalog_path is not None:
        _plain("catalog", catalog_path)
    _refuse_labels(known, labels)
    single = {"--schedule": schedule, "--cache-limit": cache_limit, "--catalog": catalog_path}
    repeated = {"--cloud": names, "--runner": labels, "--secret": secrets}
    return Request(
        system=known,
        clouds=names,
        variants=tuple(catalog.variants),
        schedule=_schedule(known, schedule),
        runner=labels,
        secrets=secrets,
        keys=tuple(sorted({*_exported(catalog)} - {*secrets})),
        cache_limit=_limit(cache_limit),
        catalog=catalog_path,
        project=_plain("project's folder", str(project)) if known == "systemd" else str(project),
        options=_options(repeated, single),
    )


def _options(repeated: Mapping[str, tuple[str, ...]], single: Mapping[str, str | None]) -> tuple[str, ...]:
    options = [(name, value) for name, values in repeated.items() for value in values]
    options += [(name, value) for name, value in single.items() if value is not None]
    return tuple(word for option in options for word in option)


def _given(*given: Iterable[str]) -> Iterable[tuple[str, Iterable[str]]]:
    return zip(("cloud", "runner", "secret"), given, strict=True)


def _words(kind: str, given: Iterable[str]) -> tuple[str, ...]:
    return tuple(_plain(kind, word) for word in dict.fromkeys(given))


def _plain(kind: str, word: str) -> str:
    if not re.fullmatch(_PATTERNS[kind], word):
        instead = _REMEDIES.get(kind, "Use letters and digits, with . _ - between them.")
        raise UsageError(f"{word!r} is not a safe value for {kind} in a file of a CI system", remedy=instead)
    return word


def _system(name: str) -> System:
    for known in get_args(System):
        if name == known:
            return cast(System, known)
    raise UsageError(
        f"{name} is not a supported CI system", remedy=f"Write --for with one of: {', '.join(get_args(System))}."
    )


def _refuse_labels(system: System, labels: tuple[str, ...]) -> None:
    if labels and system == "systemd":
        raise UsageError("a systemd timer has no runner", remedy="Leave --runner out: it runs on this host.")
    if len(labels) > 1 and system == "zuul":
        raise UsageError("a Zuul node has one label", remedy="Give one --runner.")


def _schedule(system: System, given: str | None) -> str:
    if system in _SCHEDULED_ELSEWHERE:
        if given is not None:
            raise UsageError(f"a file for {system} has no schedule", remedy=_SCHEDULED_ELSEWHERE[system])
        return ""
    return _plain(f"schedule of {system}", _DEFAULT_SCHEDULES[system] if given is None else given)


def _limit(given: str | None) -> str:
    limit = _DEFAULT_LIMIT if given is None else given
    try:
        units.parse_size(limit)
    except ValueError as error:
        raise UsageError(f"--cache-limit {limit}: {error}", remedy=f"Write it like this: {_DEFAULT_LIMIT}.") from None
    return limit


def _exported(catalog: Catalog) -> Iterable[str]:
    """The environment variables from which images.yaml takes secrets."""
    for variant in catalog.variants.values():
        for secret in variant.secrets.values():
            if secret.env is not None:
                yield _plain("secret", secret.env)
