"""What the installed diskimage-builder ships, against what a build in several runs knows of it (build/layers.py).

A later run leaves out the phases that an element has done in an earlier one. That is wrong for an element that acts for
others: it would not act for the elements of later layers. An upgrade of diskimage-builder that brings a new phase, a
new kind of file in elements, or an element that looks at others, fails here until a developer has decided.
"""

import re
import shutil
from pathlib import Path

import pytest

from pipelines.build import layers as build_layers
from tests.support.paths import DIB_ELEMENTS

# Looks at all elements (their list, or what DIB has merged of their folders), other than to call one of their programs.
LOOKS_AT_OTHERS = re.compile(
    r"get_image_element_array|\bIMAGE_ELEMENT|dirname [^)]*\)\"?/\.\.|TMP_HOOKS_PATH\b(?!}?\"?/bin/)|/tmp/in_target\.d"
)
# Elements that match, and whose phases are nevertheless right to run once, with the reason.
ONCE_IS_ENOUGH = {
    "containerfile": "makes the first tree, in root.d",
    "devuser": "hands a file to its own later phase",
    "dracut-ramdisk": "makes a ramdisk, in the run that has it",
    "element-manifest": "writes the names of all elements, which each run knows",
    "gentoo": "makes the first tree, in root.d",
    "iscsi-boot": "checks that another element is there",
    "local-config": "hands a file to its own later phase",
    "openeuler-minimal": "makes the first tree, in root.d",
    "openstack-ci-mirrors": "hands a file to its own later phase",
    "ramdisk": "makes a ramdisk, in the run that has it",
    "ramdisk-base": "makes a ramdisk, in the run that has it",
    "yum-minimal": "makes the first tree, in root.d",
}
# What a finished element keeps in later runs, since others read it, or since it is not for the guest at all.
STAYS = {
    *("README.rst", "element-deps", "element-provides", "environment.d", "bin", "pkg-map", "svc-map"),
    *("test-elements", "tests", "releasenotes", "__init__.py", "__pycache__"),
    *(
        "dracut.conf.d",
        "dracut-drivers.d",
        "modprobe.d",
        "source-repository-*",
        "udev.d",
    ),  # elements of FOR_OTHERS read these
    *("binary-deps.d", "init.d", "ramdisk-install.d"),  # of ramdisks
    *("block-device-*.yaml", "containerfiles", "os-refresh-config", "yum.repos.d"),  # an element's own
}


def looking_at_others(elements: Path) -> set[str]:
    """Elements with a phase that a later run leaves out, and that looks at other elements."""
    phases = [name for name in build_layers._ONCE if name.endswith(".d")]
    scripts = [script for phase in phases for script in elements.glob(f"*/{phase}/*") if script.is_file()]
    return {
        script.parent.parent.name for script in scripts if LOOKS_AT_OTHERS.search(script.read_text(errors="replace"))
    }


def undecided(elements: Path) -> set[str]:
    return looking_at_others(elements) - {*build_layers.FOR_OTHERS, *ONCE_IS_ENOUGH}


def unknown_entries(elements: Path) -> set[str]:
    """Names of files and folders in elements for which it is not decided what a later run does with them."""
    known = {*build_layers._ONCE, *build_layers._AT_THE_END, *STAYS}
    return {entry.name for entry in elements.glob("[!_]*/*") if not any(entry.match(name) for name in known)}


def test_each_element_that_looks_at_others_is_decided() -> None:
    found = undecided(DIB_ELEMENTS)
    assert not found, (
        f"diskimage-builder has elements that look at other elements: {sorted(found)}. Do they act for elements of "
        "later layers? Then add them to FOR_OTHERS in pipelines/build/layers.py; else to ONCE_IS_ENOUGH here."
    )


def test_each_kind_of_file_in_an_element_is_decided() -> None:
    found = unknown_entries(DIB_ELEMENTS)
    assert not found, (
        f"diskimage-builder's elements have files of a new kind: {sorted(found)}. Is their work done once, in the "
        "element's own layer? Then add them to _ONCE in pipelines/build/layers.py; at the end of a build, to "
        "_AT_THE_END; if later runs need them, to STAYS here."
    )


def test_the_phases_are_those_that_dib_runs() -> None:
    texts = [(DIB_ELEMENTS.parent / "lib" / name).read_text() for name in ("disk-image-create", "common-functions")]
    texts.append((DIB_ELEMENTS.parent / "lib" / "img-functions").read_text())
    runs = {f"{phase}.d" for phase in re.findall(r"\b(?:eval_)?run_d(?:_in_target)? ([a-z][a-z-]*)", "\n".join(texts))}
    known = {name for name in (*build_layers._ONCE, *build_layers._AT_THE_END) if name.endswith(".d")}
    assert runs == known, (
        "decide for _ONCE and _AT_THE_END in pipelines/build/layers.py: is a new phase's work done once?"
    )


@pytest.mark.parametrize("name", sorted({*build_layers.FOR_OTHERS, *ONCE_IS_ENOUGH}))
def test_each_element_that_was_decided_still_exists(name: str) -> None:
    assert (DIB_ELEMENTS / name).is_dir(), f"{name} is gone from diskimage-builder: remove it from FOR_OTHERS or here"


@pytest.mark.parametrize(
    "script",
    [
        'for element in $(get_image_element_array); do cp "$element/udev.d"/* "$TARGET_ROOT"; done',
        'install -m 0644 "$(dirname "$0")"/../udev.d/* /etc/udev/rules.d',
        'find "$TMP_HOOKS_PATH" -name "*.rules" -exec cp {} "$TMP_MOUNT_PATH" ;',
    ],
)
def test_an_upgrade_with_one_more_element_that_acts_for_others_is_found(tmp_path: Path, script: str) -> None:
    elements = tmp_path / "elements"
    shutil.copytree(DIB_ELEMENTS, elements)
    (elements / "install-udev/install.d").mkdir(parents=True)
    (elements / "install-udev/install.d/50-install").write_text(f"#!/bin/bash\n{script}\n")
    (elements / "install-udev/udev-rules.yaml").touch()
    assert undecided(elements) == {"install-udev"}
    assert unknown_entries(elements) == {"udev-rules.yaml"}
