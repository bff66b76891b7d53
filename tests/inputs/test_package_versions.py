"""Versions are compared as dpkg and rpm themselves compare them."""

import os
import subprocess

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipelines.inputs import package_versions


def nearly_the_same(pieces: list[str], ends: list[str]) -> st.SearchStrategy[tuple[str, str]]:
    """Two versions that begin alike, and end in one of `ends`: there the rules are."""
    some = st.lists(st.sampled_from(pieces), max_size=3).map("".join)
    tail = st.builds("{}{}".format, some, st.sampled_from(ends))
    start = st.builds("{}1{}".format, st.sampled_from(["", "", "1:", "0:"]), some)
    return st.builds(lambda begun, one, other: (begun + one, begun + other), start, tail, tail)


DEBIAN = nearly_the_same(
    ["0", "1", "9", "10", "01", "a", "b", "Z", ".", "+", "~", "~~", "rc"], ["", "-0", "-1", "-1~bpo13+1", "-1+b1"]
)
RPM = nearly_the_same(
    ["0", "1", "9", "10", "01", "a", "B", ".", "_", "+", "~", "^", "..", "el9"], ["-1", "-01", "-1.el9", "-2^a", "-2~a"]
)

# What disagrees is short as it is; making it shorter would run thousands of programs.
_AS_FOUND = settings(max_examples=3, deadline=None, phases=[Phase.generate])


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


def dpkg(pairs: list[tuple[str, str]]) -> list[int]:
    """What dpkg says of each pair."""
    script = (
        "while read -r a b; do if dpkg --compare-versions $a lt $b; then echo -1; "
        "elif dpkg --compare-versions $a gt $b; then echo 1; else echo 0; fi; done"
    )
    given_pairs = "".join(f"{one} {other}\n" for one, other in pairs)
    return [int(said) for said in _said(["sh", "-c", script], given_pairs)]


def rpm(pairs: list[tuple[str, str]]) -> list[int]:
    """What rpm says of each pair."""
    lua = 'for a, b in string.gmatch(os.getenv("PAIRS"), "([^ ]+) ([^ ]+) ") do print(rpm.vercmp(a, b) .. " ") end'
    given_pairs = "".join(f"{one} {other} " for one, other in pairs)
    return [int(said) for said in _said(["rpm", "--eval", f"%{{lua: {lua}}}"], "", PAIRS=given_pairs)]


def _said(argv: list[str], given: str, **environment: str) -> list[str]:
    environment = {**os.environ, **environment}
    done = subprocess.run(argv, input=given, env=environment, text=True, check=True, capture_output=True)
    return done.stdout.split()


@_AS_FOUND
@given(st.lists(DEBIAN, min_size=25, max_size=25))
def test_debian_versions_compare_as_with_dpkg(pairs: list[tuple[str, str]]) -> None:
    said = zip(pairs, dpkg(pairs), strict=True)
    assert [pair for pair, order in said if sign(package_versions.debian(*pair)) != order] == []


@_AS_FOUND
@given(st.lists(RPM, min_size=60, max_size=60))
def test_rpm_versions_compare_as_with_rpm(pairs: list[tuple[str, str]]) -> None:
    said = zip(pairs, rpm(pairs), strict=True)
    assert [pair for pair, order in said if sign(package_versions.rpm(*pair)) != order] == []


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0~rc1-1", "1.0-1"),
        ("1.0-1", "1.0^git1-1"),
        ("1.0^git1-1", "1.0.1-1"),
        ("5.14.0-70.el9", "5.14.0-570.el9"),
        ("1.0a-1", "1.0.1-1"),
        ("3:550.1-1", "3:580.95.05-1"),
        ("9.9-1", "1:1.0-1"),
    ],
)
def test_of_two_rpm_versions_one_is_newer(older: str, newer: str) -> None:
    assert package_versions.rpm(older, newer) < 0 < package_versions.rpm(newer, older)


@pytest.mark.parametrize("version", ["580.95.05", "580.95.05-1", "3:580.95.05-1.el9", "580.95.05-0ubuntu1"])
def test_the_upstream_version_has_no_epoch_and_no_revision(version: str) -> None:
    assert package_versions.upstream(version) == "580.95.05"
