"""What counts as drift, and what does not: images as Glance might show them."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.artifacts.manifest import Artifact, Manifest
from pipelines.catalog.clouds import Delivery
from pipelines.catalog.driver import Driver
from pipelines.catalog.variant import Base, Variant
from pipelines.glance import image as glance_image
from pipelines.glance.client import Image
from pipelines.release import image_metadata
from pipelines.release.drift import Drift, changes, drift, duplicates, hidden_by_hand, of_variant
from tests.support.cloud_fixtures import NOW, make_variant

BUILD_ID = "20261121T120000Z-0123abcd"


def make_manifest(variant: Variant, **changed: object) -> Manifest:
    artifact = Artifact(
        path="image.qcow2", format="qcow2", size=1, virtual_size=2**31, sha256="a" * 64, sha512="b" * 128
    )
    made = Manifest(
        variant=variant.name,
        build_id=BUILD_ID,
        fingerprint="f" * 64,
        created_at="2026-11-21T12:00:00+00:00",
        base={"distribution": "debian", "release": "trixie", "architecture": "amd64"},
        kernel="6.12.57+deb13-amd64",
        driver={},
        cuda={},
        artifacts=(artifact,),
    )
    return dataclasses.replace(made, **changed)  # type: ignore[arg-type]


def image(variant: Variant, made: Manifest, number: int = 1, **changed: object) -> Image:
    """An image as it is right after its release."""
    image_id = f"00000000-0000-0000-0000-{number:012d}"
    properties = image_metadata.properties(variant, made, image_id)
    answered = {
        "id": image_id,
        "name": variant.name,
        "status": "active",
        "visibility": variant.glance.visibility,
        "protected": variant.glance.protected,
        "owner": "ours",
        "size": 1,
        "min_disk": 2,
        "min_ram": variant.glance.min_ram,
        "created_at": "2026-11-21T12:30:00Z",
        "tags": list(variant.glance.tags),
        image_metadata.PROMOTED_AT: "2026-11-21T12:31:00Z",
    }
    right = glance_image.read(answered | properties)
    return dataclasses.replace(right, **changed)  # type: ignore[arg-type]


def with_property(right: Image, **changed: str) -> Image:
    return dataclasses.replace(right, properties={**right.properties, **changed})


def without_property(right: Image, name: str) -> Image:
    return dataclasses.replace(right, properties={k: v for k, v in right.properties.items() if k != name})


def reported(variant: Variant, found: Image, made: Manifest | None, now: datetime = NOW) -> list[str]:
    return [str(each) for each in drift(variant, found, made, now)]


def test_an_image_as_it_was_released_has_no_drift() -> None:
    variant = make_variant(tags=("gpu", "a"), properties={"mycompany.team": "ai"})
    made = make_manifest(variant)
    assert reported(variant, image(variant, made), made) == []
    assert reported(variant, image(variant, made), None) == []
    assert not changes(variant, image(variant, made), made)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"visibility": "public"}, "visibility: public, not private"),
        ({"protected": True}, "protected: true, not false"),
        ({"min_ram": 64}, "min_ram: 64, not 512"),
        ({"min_disk": 0}, "min_disk: 0, not 2"),
        ({"name": "other"}, "name: other, not "),
        ({"tags": ("b", "gpu")}, "tags: b, gpu, not gpu"),
    ],
)
def test_what_was_changed_by_hand_is_drift_that_can_be_repaired(changed: dict[str, object], message: str) -> None:
    variant = make_variant(tags=("gpu",))
    made = make_manifest(variant)
    [found] = drift(variant, image(variant, made, **changed), made, NOW)
    assert message in str(found)
    assert found.repairable


def test_a_wrong_and_a_missing_property_are_drift() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    right = image(variant, made)
    assert reported(variant, with_property(right, hw_disk_bus="ide"), made) == ["property hw_disk_bus: ide, not scsi"]
    assert reported(variant, without_property(right, "hw_disk_bus"), made) == [
        "property hw_disk_bus: missing, not scsi"
    ]


@pytest.mark.parametrize("known", [True, False])
def test_a_property_that_images_yaml_declares_is_compared_also_without_a_record_of_the_build(known: bool) -> None:
    variant = make_variant(properties={"mycompany.team": "ai", "hw_disk_bus": "virtio"})
    made = make_manifest(variant)
    right, record = image(variant, made), made if known else None
    changed = with_property(right, hw_disk_bus="ide")
    assert reported(variant, changed, record) == ["property hw_disk_bus: ide, not virtio"]
    lacking = without_property(right, "mycompany.team")
    assert reported(variant, lacking, record) == ["property mycompany.team: missing, not ai"]


def repaired(variant: Variant, found: Image, made: Manifest | None) -> Image:
    """The image with all that can be repaired."""
    needed = changes(variant, found, made)
    fields = {name: value for name, value in needed.values.items() if name in {"name", "min_ram", "tags"}}
    held = {**found.properties, **{name: value for name, value in needed.values.items() if name not in fields}}
    properties = {name: value for name, value in held.items() if name not in needed.remove}
    return dataclasses.replace(found, properties=properties, **fields)  # type: ignore[arg-type]


def test_without_a_record_what_follows_from_the_build_stays_however_often_it_is_repaired() -> None:
    before = make_variant(properties={"mycompany.team": "ai"})
    made = make_manifest(before, base={"distribution": "debian", "release": "bookworm", "architecture": "amd64"})
    upgraded = dataclasses.replace(before, glance=make_variant(properties={"mycompany.team": "ml"}).glance)
    assert upgraded.base == Base(distribution="debian", release="trixie")
    first = repaired(upgraded, image(before, made), None)
    second = repaired(upgraded, first, None)
    assert (second.properties["os_version"], second.properties["mycompany.team"]) == ("12", "ml")
    assert first == second
    assert reported(upgraded, second, None) == []


def test_a_lost_property_is_reported_without_a_record_too_until_a_build_brings_it() -> None:
    variant = make_variant()
    lacking = without_property(image(variant, make_manifest(variant)), "os_version")
    [found] = drift(variant, lacking, None, NOW)
    assert (found.what, found.repairable) == ("property os_version", False)
    assert not changes(variant, lacking, None)


def test_an_image_in_another_format_than_the_cloud_wants_needs_an_upload() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    kept = image(variant, made, disk_format="qcow2")
    assert drift(variant, kept, made, NOW, delivery=Delivery()) == ()
    [found] = drift(variant, kept, made, NOW, delivery=Delivery(disk_format="raw"))
    assert str(found) == "disk_format: qcow2 until the next upload, not raw"
    assert not found.repairable


def test_what_the_cloud_itself_converted_and_we_compared_is_in_the_right_format() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    raw = image(variant, made, disk_format="raw")
    assert len(drift(variant, raw, made, NOW, delivery=Delivery())) == 1
    compared = with_property(raw, **{image_metadata.DATA: "sha512:ab"})
    assert drift(variant, compared, made, NOW, delivery=Delivery()) == ()


def test_an_image_that_lacks_a_store_needs_an_upload() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    wanted = Delivery(stores=("a", "b", "c"))
    found = image(variant, made, disk_format="qcow2", stores=("b", "x"))
    [one] = drift(variant, found, made, NOW, delivery=wanted)
    assert str(one) == "stores: only in b, x until the next build is uploaded, not in a, c too"
    assert not one.repairable
    everywhere = dataclasses.replace(found, stores=("c", "b", "a"))
    assert drift(variant, everywhere, made, NOW, delivery=wanted) == ()
    unknown = dataclasses.replace(found, stores=())  # of a cloud with one store
    assert drift(variant, unknown, made, NOW, delivery=wanted) == ()
    assert drift(variant, found, made, NOW, current=False, delivery=wanted) == ()


def test_an_image_that_an_administrator_deactivated_is_reported_as_that() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    [found] = drift(variant, image(variant, made, status="deactivated", min_ram=1), made, NOW)
    assert str(found).startswith("deactivated: deactivated by an administrator")
    assert not found.repairable


def test_a_property_that_nova_reads_and_images_yaml_lacks_is_removed() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    found = with_property(image(variant, made), hw_machine_type="pc")
    assert reported(variant, found, made) == ["property hw_machine_type: pc, not none"]
    assert changes(variant, found, made).remove == ("hw_machine_type",)


def test_what_glance_and_others_note_on_an_image_is_theirs() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    theirs = {"os_glance_failed_import": "", "stores": "main", "mycompany.seen": "yes", "owner_specified.x": "1"}
    assert reported(variant, with_property(image(variant, made), **theirs), made) == []


def test_what_a_package_brought_with_it_is_no_drift() -> None:
    variant = make_variant()
    made = make_manifest(variant, packages={"qemu-guest-agent": "1:10"})
    released_so = image(variant, made)
    assert released_so.properties["hw_qemu_guest_agent"] == "yes"
    assert reported(variant, released_so, made) == reported(variant, released_so, None) == []


def test_what_changed_in_images_yaml_is_reported_once_with_each_property() -> None:
    before, after = make_variant(properties={"mycompany.team": "ai"}), make_variant(properties={"mycompany.team": "ml"})
    after = dataclasses.replace(after, name=before.name)
    made = make_manifest(before)
    assert reported(after, image(before, made), made) == [
        "metadata: older than images.yaml, or changed by hand, not as in images.yaml",
        "property mycompany.team: ai, not ml",
    ]


def test_members_are_those_of_images_yaml() -> None:
    variant = make_variant(visibility="shared", members=("a", "b"))
    made = make_manifest(variant)
    found = drift(variant, image(variant, made), made, NOW, members={"b": "accepted", "c": "pending"})
    assert [str(each) for each in found] == ["member a: missing, not a member", "member c: pending, not no member"]
    assert drift(variant, image(variant, made), made, NOW, members={"a": "pending", "b": "accepted"}) == ()


def test_a_driver_past_its_end_of_life_is_drift_that_needs_a_build() -> None:
    variant = make_variant()
    made = make_manifest(variant, driver={"version": "535.261.03", "modules": "proprietary"})
    assert reported(variant, image(variant, made), made, datetime(2026, 3, 1, tzinfo=UTC)) == []
    [found] = drift(variant, image(variant, made), made, NOW)
    assert "past its end of life of 2026-06-30" in found.found
    assert (found.repairable, found.asked_for) == (False, False)


def test_an_old_driver_that_images_yaml_asks_for_is_reported_and_needs_no_action() -> None:
    plain = make_variant()
    variant = dataclasses.replace(plain, driver=Driver(source="archive", modules="proprietary"))
    made = make_manifest(variant, driver={"version": "550.163.01", "modules": "proprietary"})
    [found] = drift(variant, image(variant, made), made, NOW)
    assert ("550" in found.found, found.asked_for) == (True, True)


def test_an_image_as_old_as_rebuild_age_is_drift_and_a_younger_one_is_not() -> None:
    variant = dataclasses.replace(make_variant(), rebuild_age=timedelta(days=7))
    made = make_manifest(variant)
    built = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert reported(variant, image(variant, made), made, built + timedelta(days=6, hours=23)) == []
    assert reported(variant, image(variant, made), made, built + timedelta(days=7)) == ["age: 7d, not less than 7d"]


def test_another_fingerprint_is_drift_that_needs_a_build() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    assert drift(variant, image(variant, made), made, NOW, fingerprint="f" * 64) == ()
    [found] = drift(variant, image(variant, made), made, NOW, fingerprint="e" * 64)
    assert not found.repairable


def test_a_half_uploaded_image_is_reported_and_nothing_else_of_it() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    assert reported(variant, image(variant, made, status="saving", name="x"), made) == [
        "half uploaded: it has no data (saving)"
    ]


def test_of_a_hidden_image_only_a_name_that_users_would_find_is_drift() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    hidden = image(variant, made, hidden=True, min_ram=1, tags=("x",))
    [found] = drift(variant, hidden, made, NOW, current=False)
    assert (found.what, found.wanted) == ("name", f"{variant.name} {BUILD_ID}")
    named = dataclasses.replace(hidden, name=f"{variant.name} {BUILD_ID}")
    assert drift(variant, named, made, NOW, current=False) == ()


def test_one_image_that_is_shown_is_in_order_and_none_or_several_are_not() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    old, new = image(variant, made, 1), image(variant, made, 2)
    assert of_variant(variant, [old], []) == ()
    [several] = of_variant(variant, [old, new], [])
    assert old.id in several.found
    hidden = dataclasses.replace(new, hidden=True)
    [none] = of_variant(variant, [hidden], [])
    assert none.repairable
    retired = with_property(hidden, **{image_metadata.RETIRED_AT: "2026-11-21T13:00:00Z"})
    assert hidden_by_hand([retired]) is None
    assert [each.repairable for each in of_variant(variant, [retired], [])] == [False]
    assert of_variant(variant, [], []) == ()


def test_an_older_image_beside_a_deactivated_one_is_not_hidden() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    old, new = image(variant, made, 1), image(variant, made, 2)
    assert [each.repairable for each in of_variant(variant, [old, new], [])] == [True]
    deactivated = dataclasses.replace(new, status="deactivated")
    assert [each.repairable for each in of_variant(variant, [old, deactivated], [])] == [False]


def test_another_users_image_is_drift_only_while_users_find_it_under_our_name() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    mine, theirs = image(variant, made, 1), image(variant, made, 2, owner="them", visibility="public")
    [found] = of_variant(variant, [mine], [theirs])
    assert (theirs.id in found.found, found.repairable) == (True, False)
    quiet = [dataclasses.replace(theirs, hidden=True), dataclasses.replace(theirs, name="a snapshot")]
    assert of_variant(variant, [mine], quiet) == ()


def test_a_cloud_may_have_another_name_for_a_variant() -> None:
    variant = make_variant(name="acme {variant}")
    made = make_manifest(variant)
    [found] = drift(variant, image(variant, made), made, NOW)
    assert (found.what, found.wanted) == ("name", f"acme {variant.name}")
    theirs = image(variant, made, 2, name=f"acme {variant.name}", owner="them", visibility="public")
    assert len(of_variant(variant, [image(variant, made)], [theirs])) == 1


def test_of_two_copies_of_a_build_the_one_that_is_not_shown_is_the_duplicate() -> None:
    variant = make_variant()
    made = make_manifest(variant)
    copy, visible = image(variant, made, 1, hidden=True), image(variant, made, 2)
    assert list(duplicates([copy, visible])) == [copy.id]
    assert duplicates([visible]) == {}


@pytest.mark.parametrize(
    ("what", "in_json"),
    [
        ("metadata", "release data"),
        ("visible images", "shown"),
        ("image of the same name", "somebody else's image"),
        ("property os_type", "property os_type"),
    ],
)
def test_json_has_the_words_that_scripts_compare(what: str, in_json: str) -> None:
    found = Drift(what=what, wanted="this", found="that", repairable=True)
    assert found.plain() == {
        "what": in_json,
        "wanted": "this",
        "found": "that",
        "repairable": True,
        "asked_for": False,
    }
