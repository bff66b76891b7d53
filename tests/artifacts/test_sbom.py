"""The SBOM of a build, validated with CycloneDX's own schema."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pipelines.artifacts import sbom, store
from pipelines.artifacts.manifest import Artifact, Manifest
from pipelines.build import builder
from pipelines.catalog import loader
from pipelines.util import files
from tests.support.command_line import inv
from tests.support.paths import PROJECT
from tests.support.small_image import manifest as good_manifest

ARTIFACT = Artifact(path="image.qcow2", format="qcow2", size=1, virtual_size=2, sha256="a" * 64, sha512="b" * 128)
DEBIAN = replace(
    good_manifest(ARTIFACT),
    packages={"bash": "5.2.37-2", "libc6:amd64": "2.41-12", "attr": "1:2.5.2-3"},
    architectures={"bash": "amd64", "libc6:amd64": "amd64"},
    cuda={"toolkit": "12.4"},
    driver={"version": "550.163.01", "modules": "proprietary", "source": "archive", "certificate": "-----BEGIN"},
    elements={"gpu-check": "c" * 64},
    inputs={"base image": "d" * 64},
    tools={"diskimage-builder": "3.43.0"},
)
ROCKY = replace(
    DEBIAN,
    base={"distribution": "rocky", "release": "9", "architecture": "amd64"},
    packages={"bash": "5.1.8-9.el9", "shadow-utils": "2:4.9-12.el9"},
    architectures={"bash": "x86_64", "shadow-utils": "x86_64"},
)
IMPORTED = replace(
    DEBIAN,
    base={"type": "windows", "distribution": "windows", "release": "2025", "architecture": "amd64"},
    kernel="",
    driver={},
    cuda={},
    packages={},
    architectures={},
    elements={},
)


def document(made: Manifest) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(sbom.sbom(made))
    return said


def components(made: Manifest) -> dict[str, dict[str, Any]]:
    return {each["bom-ref"]: each for each in document(made)["components"]}


@pytest.mark.parametrize("made", [DEBIAN, ROCKY, IMPORTED], ids=["debian", "rocky", "imported"])
def test_the_document_is_valid_cyclonedx_1_6(made: Manifest) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom.sbom(made).decode()) is None
    assert document(made)["specVersion"] == "1.6"


def test_one_manifest_has_one_document_and_another_build_another_serial_number() -> None:
    assert sbom.sbom(DEBIAN) == sbom.sbom(DEBIAN)
    other = replace(DEBIAN, build_id="20261123T120000Z-01234567")
    assert document(other)["serialNumber"] != document(DEBIAN)["serialNumber"]


def test_the_image_is_what_the_document_is_about_with_both_digests() -> None:
    about = document(DEBIAN)["metadata"]
    image = about["component"]
    assert (image["name"], image["version"]) == (DEBIAN.variant, DEBIAN.build_id)
    assert {each["alg"]: each["content"] for each in image["hashes"]} == {"SHA-256": "a" * 64, "SHA-512": "b" * 128}
    assert about["timestamp"] == "2026-11-22T12:00:00+00:00"


@pytest.mark.parametrize(
    ("made", "name", "purl"),
    [
        (DEBIAN, "bash", "pkg:deb/debian/bash@5.2.37-2?arch=amd64&distro=debian-13"),
        (DEBIAN, "libc6:amd64", "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=debian-13"),
        (replace(DEBIAN, architectures={}), "libc6:amd64", "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=debian-13"),
        (DEBIAN, "attr", "pkg:deb/debian/attr@1%3A2.5.2-3?distro=debian-13"),
        (ROCKY, "bash", "pkg:rpm/rocky/bash@5.1.8-9.el9?arch=x86_64&distro=rocky-9"),
        (ROCKY, "shadow-utils", "pkg:rpm/rocky/shadow-utils@4.9-12.el9?arch=x86_64&distro=rocky-9&epoch=2"),
        (
            replace(ROCKY, base=dict(ROCKY.base) | {"distribution": "almalinux"}),
            "bash",
            "pkg:rpm/almalinux/bash@5.1.8-9.el9?arch=x86_64&distro=almalinux-9",
        ),
        (
            replace(ROCKY, base=dict(ROCKY.base) | {"distribution": "rhel"}),
            "bash",
            "pkg:rpm/redhat/bash@5.1.8-9.el9?arch=x86_64&distro=rhel-9",
        ),
    ],
)
def test_a_package_has_the_url_that_scanners_look_it_up_by(made: Manifest, name: str, purl: str) -> None:
    assert components(made)[f"package:{name}"]["purl"].replace("@1:", "@1%3A") == purl


def test_what_an_operator_asks_for_first_is_there_by_name_and_version() -> None:
    found = {(each["type"], each["name"], each["version"]) for each in components(DEBIAN).values() if "version" in each}
    assert found >= {
        ("operating-system", "debian", "13"),
        ("application", "linux", DEBIAN.kernel),
        ("device-driver", "nvidia-driver", "550.163.01"),
        ("framework", "cuda-toolkit", "12.4"),
    }


def test_elements_and_inputs_have_their_digests() -> None:
    found = components(DEBIAN)
    digests = {name: found[name]["hashes"][0]["content"] for name in ("element:gpu-check", "input:base image")}
    assert digests == {"element:gpu-check": "c" * 64, "input:base image": "d" * 64}


def test_an_imported_image_has_a_note_that_its_contents_are_not_known() -> None:
    properties = {each["name"]: each["value"] for each in document(IMPORTED)["metadata"]["component"]["properties"]}
    assert "its publisher" in properties["gpu-image:contents"]
    assert {each["type"] for each in document(IMPORTED)["components"]} == {"operating-system", "file"}


def test_a_build_leaves_its_document_with_every_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{PROJECT / 'tests' / 'support' / 'fakes'}:{os.environ['PATH']}")
    written = tmp_path / "images.yaml"
    written.write_text(
        "version: 1\nimages: {plain: {base: {distribution: debian, release: trixie}, disk: {size: 1GiB}}}\n"
    )
    variant = loader.load(written).variants["plain"]
    made = builder.build(variant, tmp_path / "builds", datetime(2026, 11, 22, tzinfo=UTC))
    said = json.loads((made.folder / "sbom.cdx.json").read_text())
    purls = [each["purl"] for each in said["components"] if "purl" in each]
    assert purls == ["pkg:deb/debian/linux-image-6.12@6.12.1?arch=amd64&distro=debian-13"]


def test_show_prints_the_document_of_the_newest_build_also_of_one_that_left_none(tmp_path: Path) -> None:
    for build_id in ("20261121T120000Z-01234567", "20261122T120000Z-01234567"):
        folder = tmp_path / "debian-cuda" / build_id
        folder.mkdir(parents=True)
        files.write_json(folder / "manifest.json", replace(DEBIAN, build_id=build_id))
        store.set_state(folder, store.COMPLETE)
    shown = inv("show", "debian-cuda", "--sbom", "--builds", tmp_path)
    assert shown.stdout.encode() == sbom.sbom(replace(DEBIAN, build_id="20261122T120000Z-01234567"))
