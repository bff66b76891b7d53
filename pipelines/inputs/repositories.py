"""Changes of package repositories since a build installed packages from them.

An apt repository lists the digest of each of its indexes in one small signed file; those that the build used are
compared, since the file's date may change every day. An rpm repository has such a file too, and rewrites it only with
its indexes. Signatures are left to the package manager: a forged answer could only start a build or prevent one, as an
old but genuine answer could. An answer that has expired is no answer: a mirror that is no longer updated would report
for ever that nothing is newer.
"""

import hashlib
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipelines.inputs import http
from pipelines.inputs.http import Answer
from pipelines.util import text, urls
from pipelines.util.errors import BuildError, PipelineError

DEADLINE_SECONDS = 10.0
WHOLE = "-"  # in place of an index: the file itself is compared
_UNLISTED = "-"  # in place of a digest: the repository lists none
_VALID_UNTIL = re.compile("^Valid-Until: *(.+?) *$", re.MULTILINE)


def read(output: str) -> Mapping[str, str]:
    """The output of the elements' `guest-os repository-state`: "URL INDEX" → sha256, with no password in a URL."""
    found = {}
    for line in output.splitlines():
        try:
            url, index, sha256 = line.split()
        except ValueError:
            raise BuildError(f"this is not the state of a package repository: {line}", remedy="Report this.") from None
        found[f"{urls.shown(url)} {index}"] = sha256
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """A package repository when a build used it, and now.

    `known` maps each index that was used to its sha256 then, `now` each existing index to its sha256, and `content` is
    the repository's list of them. `trouble` is the reason why it cannot be checked, for the operator, or "".
    """

    url: str
    known: Mapping[str, str]
    now: Mapping[str, str]
    content: bytes
    trouble: str = ""

    @property
    def place(self) -> str:
        """The repository's address, as an operator knows it."""
        return re.sub(r"/(InRelease|Release|repodata/repomd\.xml)$", "", self.url)

    @property
    def changed(self) -> tuple[str, ...]:
        """The indexes that are no longer as the build used them."""
        return tuple(index for index, sha256 in self.known.items() if self.now.get(index) != sha256)


def changed(known: Mapping[str, str], deadline: float = DEADLINE_SECONDS) -> str:
    """Which repositories have changed, for the operator; "" when all are as `known`.

    One without a valid answer within `deadline` seconds counts as changed.
    """
    reasons = [state.trouble or _difference(state) for state in states(known, deadline)]
    return text.listed([reason for reason in reasons if reason], separator="; ")


def states(known: Mapping[str, str], deadline: float = DEADLINE_SECONDS) -> list[State]:
    """The present state of each repository in `known`: all are asked once, in parallel, for `deadline` seconds."""
    used: dict[str, dict[str, str]] = defaultdict(dict)
    for name, sha256 in known.items():
        url, _, index = name.rpartition(" ")
        used[url][index] = sha256
    answers = _asked(used, deadline)
    late = BuildError(f"no answer for {deadline:g} s")
    return [_state(url, indexes, answers.get(url, late)) for url, indexes in used.items()]


def _asked(addresses: Iterable[str], deadline: float) -> dict[str, Answer | PipelineError]:
    """The answers that came in time, by URL. Threads that still wait end with the program."""
    answers: dict[str, Answer | PipelineError] = {}

    def ask(url: str) -> None:
        try:
            answers[url] = _answer(url)
        except PipelineError as error:
            answers[url] = error

    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in addresses]
    until = time.monotonic() + deadline
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return dict(answers)


def _answer(url: str) -> Answer:
    parts = urlsplit(url)
    if parts.scheme != "file":
        return http.dated(url, http.BRIEF)
    try:
        return Answer(content=Path(unquote(parts.path)).read_bytes())
    except OSError as error:
        raise BuildError(f"{url}: {error.strerror}") from error


def _state(url: str, known: Mapping[str, str], answer: Answer | PipelineError) -> State:
    if isinstance(answer, PipelineError):
        return _silent(url, known, answer.what.rpartition(": ")[2])
    if _UNLISTED in known.values():
        return _silent(url, known, "it listed no digest for its index when the image was built")
    release = answer.content.decode("utf-8", errors="replace")
    now = {WHOLE: hashlib.sha256(answer.content).hexdigest()} | _listed(release)
    if WHOLE not in known:
        if len(now) == 1:
            return _silent(url, known, "its answer is not a list of indexes")
        if expired := _expired(release, answer.at):
            return _silent(url, known, f"its list of indexes expired on {expired}")
    return State(url=url, known=known, now=now, content=answer.content)


def _expired(release: str, at: datetime | None) -> str:
    """The day on which a Release file expired, by the clock of its own server; "" while it is valid."""
    found = _VALID_UNTIL.search(release)
    until = http.moment(found[1]) if found else None
    return f"{until:%Y-%m-%d}" if until and at and until < at else ""


def _silent(url: str, known: Mapping[str, str], why: str) -> State:
    state = State(url=url, known=known, now={}, content=b"")
    return replace(state, trouble=f"{state.place} cannot be checked: {why}")


def _difference(state: State) -> str:
    """The components of a repository that have changed, for the operator; "" when none has."""
    others = sorted({_component(index) for index in state.changed})
    if not others:
        return ""
    return f"{' '.join([state.place, ', '.join(others)]).strip()} {'has' if len(others) == 1 else 'have'} changed"


def _listed(release: str) -> dict[str, str]:
    """The sha256 of each index that a Release file lists (https://wiki.debian.org/DebianRepository/Format)."""
    found, inside = {}, False
    for line in release.splitlines():
        words = line.split()
        if not line.startswith(" "):
            inside = words == ["SHA256:"]
        elif inside and len(words) == 3:
            found[words[2]] = words[0]
    return found


def _component(index: str) -> str:
    """The component that an index belongs to: "main"; "" where a repository has none."""
    return "" if index == WHOLE else re.sub(r"/?(binary-[^/]+/)?Packages(\.\w+)?$", "", index)
