"""Summary of a refresh in Markdown, as CI systems show it: what was done where, what failed, what is new inside."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.artifacts import diff
from pipelines.artifacts.diff import Difference
from pipelines.catalog.variant import Variant
from pipelines.util import console, units
from pipelines.util.errors import HostError, PipelineError
from pipelines.workflows import site
from pipelines.workflows.refresh_run import Refresh, Step, failure_text

NOT_REACHED = "not reached"
_COLUMNS = ("image", "cloud", "done", "reason", "build", "image ID", "time")
_LINES_OF_AN_ERROR = 40
_MARKUP = re.compile(r"([\\`*_\[\]{}#|~])")
_NOTHING = "–"
_NEW = ("build", "verify", "upload", "promote")  # the other steps bring no new build
_DONE = {
    "build": "built",
    "verify": "verified",
    "upload": "released",
    "promote": "promoted",
    "update": "updated",
    "prune": "pruned",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What was done for one image on one cloud.

    `cloud` is "" for this host. `action` is what was done, such as "built, released", "nothing to do" or "failed", or
    it is NOT_REACHED; `reason` is that of the plan. `packages`, `driver` and `kernel` are what has changed since the
    build before ("libc6 2.41-12 → 2.41-13"; "550.163.01 → 550.170.02"), empty if nothing has, or that is not known.
    `seconds` are by step. `error` is what failed, with its remedy, or "".
    """

    variant: str
    cloud: str = ""
    action: str
    reason: str = ""
    build_id: str = ""
    image_id: str = ""
    packages: tuple[str, ...] = ()
    driver: str = ""
    kernel: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


def markdown(rows: Sequence[Row]) -> str:
    """The whole summary, from its heading to a newline at its end."""
    parts = [_heading(rows)]
    if rows:
        parts.append(_table(rows))
    parts += [_failure(row) for row in rows if row.error]
    parts += _changes(rows)
    return "\n\n".join(parts) + "\n"


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write the summary to a file, in place of its content; HostError if that fails."""
    try:
        path.write_text(markdown(rows), encoding="utf-8")
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}", remedy="Name another file.") from error


@contextlib.contextmanager
def written(path: Path, rows: Callable[[], Sequence[Row]]) -> Iterator[None]:
    """Write the summary before some work and after it, however that ends.

    Before it, so that an unwritable file is an error at once, and a run that is killed leaves a summary too.
    If both the work and the summary after it fail, the error of the work is raised.
    """
    write(path, rows())
    try:
        yield
    except BaseException:
        try:
            write(path, rows())
        except HostError as error:
            console.fail(error)
        raise
    write(path, rows())


def _heading(rows: Sequence[Row]) -> str:
    if not rows:
        return "## GPU images: nothing to do"
    images, clouds, failed = {row.variant for row in rows}, {row.cloud for row in rows} - {""}, _failed(rows)
    where = f" on {_count(len(clouds), 'cloud')}" if clouds else ""
    missed = sum(row.action == NOT_REACHED for row in rows)
    how = [f"{len(failed)} failed ({', '.join(_text(name) for name in failed)})"] if failed else []
    how += [f"{missed} {NOT_REACHED}"] if missed else []
    return f"## GPU images: {_count(len(images), 'image')}{where}, {', '.join(how) or 'all well'}"


def _failed(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.variant for row in rows if row.error))


def _table(rows: Sequence[Row]) -> str:
    lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    return "\n".join(lines + [_line(_cells(row)) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    action = f"**{_text(row.action)}**" if row.error else _text(row.action)
    plain = (_text(row.variant), _text(row.cloud), action, _text(row.reason))
    return (*plain, _code(row.build_id), _code(row.image_id), _time(row.seconds))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell or _NOTHING for cell in cells)} |"


def _time(seconds: Mapping[str, float]) -> str:
    """The steps and their sum: `5:12 (build 4:10, verify 0:22, upload 0:40)`."""
    if not seconds:
        return ""
    steps = ", ".join(f"{_text(step)} {units.clock(spent)}" for step, spent in seconds.items())
    return f"{units.clock(sum(seconds.values()))} ({steps})"


def _failure(row: Row) -> str:
    """What failed, in the words of the error; of a long text only its end."""
    where = f" on {_text(row.cloud)}" if row.cloud else ""
    lines = row.error.strip().splitlines()
    left_out = ["…"] if len(lines) > _LINES_OF_AN_ERROR else []
    return f"### {_text(row.variant)}{where} failed\n\n{_fenced([*left_out, *lines[-_LINES_OF_AN_ERROR:]])}"


def _changes(rows: Iterable[Row]) -> list[str]:
    """What is new inside, once for all clouds for which it is the same."""
    changed = {(row.variant, row.driver, row.kernel, row.packages): row for row in rows}
    return [_change(row) for news, row in changed.items() if any(news[1:])]


def _change(row: Row) -> str:
    lines = [f"### {_text(row.variant)}: what has changed", ""]
    lines += [f"- {what}: {_text(news)}" for what, news in (("driver", row.driver), ("kernel", row.kernel)) if news]
    if row.packages:
        lines += ["", f"<details><summary>{_count(len(row.packages), 'package')}</summary>", ""]
        lines += [f"- {_text(package)}" for package in row.packages]
        lines += ["", "</details>"]
    return "\n".join(lines)


def _fenced(lines: Sequence[str]) -> str:
    """A block of code whose fence no line of it can end."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *lines, fence])


def _code(text: str) -> str:
    """An ID as code; anything else that is in its place as text."""
    return f"`{text}`" if re.fullmatch(r"[A-Za-z0-9._-]+", text) else _text(text)


def _text(text: str) -> str:
    """Text on one line that no reader of Markdown or HTML takes for markup."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", plain)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def rows(run: Refresh, variants: Sequence[Variant]) -> list[Row]:
    """All requested images, in their order. If it cannot be found out what is new, that is no error."""
    found = [
        Row(variant="all", cloud=name, action="failed", error=failure_text(error))
        for name, error in run.site.connection_errors.items()
    ]
    for variant in variants:
        own = _rows(run, variant)
        error = run.outcomes.get(variant.name)
        if error and not any(row.error for row in own):
            own.append(Row(variant=variant.name, action="failed", error=error))
        if not own:
            own.append(Row(variant=variant.name, action=NOT_REACHED if error is None else "nothing to do"))
        found += own
    return found


def _rows(run: Refresh, variant: Variant) -> list[Row]:
    """One image: what was done on this host, and in each cloud."""
    steps = sorted((step for step in run.steps if step.variant == variant.name), key=lambda step: step.cloud or "")
    news = _news(run, variant, steps)
    where = dict.fromkeys(step.cloud for step in steps)
    done = [_row(variant, cloud, [step for step in steps if step.cloud == cloud], news) for cloud in where]
    return done + [
        Row(variant=name, cloud=cloud, action="failed", error=error)
        for (name, cloud), error in run.cloud_errors.items()
        if name == variant.name
    ]


def _row(variant: Variant, cloud: str | None, steps: Sequence[Step], news: Difference | None) -> Row:
    system = {change.name: f"{change.old or '-'} → {change.new or '-'}" for change in news.system} if news else {}
    failed = [step.error for step in steps if step.error]
    return Row(
        variant=variant.name,
        cloud=cloud or "",
        action="failed" if failed else ", ".join(map(_done, steps)),
        reason="; ".join(dict.fromkeys(step.reason for step in steps)),
        build_id=next((step.build_id for step in steps if step.build_id), ""),
        image_id=next((step.image_id for step in steps if step.image_id and step.verb != "prune"), ""),
        packages=tuple(f"{c.name} {c.old or '-'} → {c.new or '-'}" for c in news.packages) if news else (),
        driver=system.get("driver version", ""),
        kernel=system.get("kernel", ""),
        seconds={step.verb: step.seconds for step in steps},
        error="\n".join(failed),
    )


def _done(step: Step) -> str:
    return "nothing pruned" if step.verb == "prune" and not step.image_id else _DONE[step.verb]


def _news(run: Refresh, variant: Variant, steps: Sequence[Step]) -> Difference | None:
    """What is in the build that this run released, against the one before; None where either is not known."""
    new = max((step.build_id for step in steps if step.verb in _NEW), default="")
    if not new:
        return None
    try:
        before = [record.manifest for record in run.site.records.known(variant.name) if record.manifest.build_id < new]
        made = site.manifest_of(run.site, variant.name, new)
    except PipelineError as error:
        console.warn(f"{variant.name}: the changes in {new} are not known: {error.what}")
        return None
    return diff.between(before[-1], made) if before and made else None
