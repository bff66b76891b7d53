"""Checks of the guest against its build's manifest: its identity and its packages."""

import json
from collections.abc import Callable

from pipelines.diskimage import installed_packages
from pipelines.verify.check import Guest, Outcome, outcome


def identity(guest: Guest) -> Outcome:
    """/etc/gpu-image.json in the guest agrees with the manifest."""
    text = guest.files.text("/etc/gpu-image.json")
    if text is None:
        return False, "/etc/gpu-image.json is missing"
    found, recorded = json.loads(text), guest.manifest
    expected = {"variant": recorded.variant, "build_id": recorded.build_id, "kernel": recorded.kernel}
    expected |= {"driver": recorded.driver.get("version", ""), "modules": recorded.driver.get("modules", "")}
    expected |= {"cuda": recorded.cuda.get("toolkit", "")}
    wrong = {key: value for key, value in expected.items() if found.get(key) != value}
    problems = [f"{key} is {found.get(key)!r}, the manifest says {value!r}" for key, value in wrong.items()]
    return outcome(problems, f"{recorded.variant} {recorded.build_id}")


def packages(guest: Guest) -> Outcome:
    """The manifest's packages, from which updates are planned, are the guest's."""
    recorded = {name.split(":")[0]: version for name, version in guest.manifest.packages.items()}
    found = {name: package.version for name, package in installed_packages.installed(guest.files).items()}
    differ = sorted(name for name in recorded.keys() | found.keys() if recorded.get(name) != found.get(name))
    problems = [f"{name} is {found.get(name)}, the manifest says {recorded.get(name)}" for name in differ]
    return outcome(problems, f"{len(found)}, as in the manifest")


CHECKS: tuple[tuple[str, Callable[[Guest], Outcome]], ...] = (
    ("identity", identity),
    ("packages", packages),
)
