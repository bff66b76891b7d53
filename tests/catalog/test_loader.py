"""Loading images.yaml: what it may contain, what images inherit, and how its problems are reported."""

import contextlib
import json
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.build import element_selection
from pipelines.catalog import inheritance, json_schema, loader
from pipelines.catalog.clouds import Delivery
from pipelines.catalog.distributions import DISTRIBUTIONS
from pipelines.catalog.loader import Catalog
from pipelines.util.errors import CatalogError
from tests.support.paths import PROJECT

DEBIAN = "base: {distribution: debian, release: trixie}, disk: {size: 4GiB}"
GPU = "driver: {source: archive, modules: open}"
SIGNED_SUMS = "source: cloud-image, url: 'https://x/y', sha256sums_url: 'https://x/SUMS'"
Load = Callable[[str], Catalog]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def write_and_load(text: str) -> Catalog:
        path = tmp_path / "images.yaml"
        path.write_text(text, encoding="utf-8")
        return loader.load(path)

    return write_and_load


@pytest.fixture
def problems(load: Load) -> Callable[[str], list[str]]:
    """The problems of a file that cannot be used, one per line."""

    def refused(text: str) -> list[str]:
        with pytest.raises(CatalogError) as caught:
            load(text)
        assert caught.value.exit_code == 2
        return [line.strip() for line in caught.value.what.splitlines()[1:]]

    return refused


def images(*lines: str) -> str:
    return "version: 1\nimages:\n" + "".join(f"  {line}\n" for line in lines)


def one(rest: str) -> str:
    """A catalog of one good image and one more line about it."""
    return images(f"a: {{{DEBIAN}, {rest}}}")


# --- Our own catalog ------------------------------------------------------------------------------------------------


def test_our_own_catalog_has_the_images_that_we_promise() -> None:
    ours = loader.load(PROJECT / "images.yaml")
    gpu = {name: variant.gpu for name, variant in ours.variants.items()}
    assert gpu == {
        "debian-base": False,
        "debian-cuda": True,
        "debian12-cuda": True,
        "debian-cuda-devel": True,
        "ubuntu-cuda": True,
        "ubuntu-cuda-signed": True,
    }


def test_our_own_catalog_is_good_by_the_schema_that_editors_use() -> None:
    text = (PROJECT / "images.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=./images.schema.json\n")
    jsonschema.validate(yaml.safe_load(text), json_schema.json_schema(), jsonschema.Draft202012Validator)


def test_the_schema_in_the_repository_is_current() -> None:
    assert (PROJECT / "images.schema.json").read_text(encoding="utf-8") == json_schema.text()


def test_the_schema_describes_every_key_that_an_image_may_have() -> None:
    described = json_schema.json_schema()["$defs"]["Image"]["properties"]
    assert {"parent", "abstract", "base", "rebuild_age"} <= set(described)
    assert "name" not in described
    assert [key for key, value in described.items() if not value.get("description")] == []


@pytest.mark.parametrize(
    "wrong",
    ["disk: {size: 20GB}", "base: {release: 24.10}", "dsk: {}", "environment: {FOO: x}", "keep: 0", "kernel: 3"],
)
def test_the_schema_refuses_what_the_catalog_refuses(wrong: str, load: Load) -> None:
    text = images(f"a: {{abstract: true, {wrong}}}")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), json_schema.json_schema(), jsonschema.Draft202012Validator)
    with pytest.raises(CatalogError):
        load(text)


def test_the_schema_lets_null_remove_anything() -> None:
    text = images("a: {rebuild_age: null, base: null, glance: {tags: null}, environment: {DIB_A: null}}")
    jsonschema.validate(yaml.safe_load(text), json_schema.json_schema(), jsonschema.Draft202012Validator)


# --- What a variant is ----------------------------------------------------------------------------------------------


def test_values_get_their_units(load: Load) -> None:
    variant = load(one("rebuild_age: 36h")).variants["a"]
    assert variant.disk.size == 4 * 2**30
    assert variant.rebuild_age == timedelta(hours=36)


@pytest.mark.parametrize(("size", "mib"), [("4GiB", 4096), ("4097MiB", 4097), ("1TiB", 2**20)])
def test_a_size_has_a_binary_unit(size: str, mib: int, load: Load) -> None:
    text = images(f"a: {{base: {{distribution: debian, release: trixie}}, disk: {{size: {size}}}}}")
    assert load(text).variants["a"].disk.size == mib * 2**20


def test_a_driver_makes_a_gpu_image_and_none_does_not(load: Load) -> None:
    loaded = load(images(f"a: {{{DEBIAN}, {GPU}}}", "b: {parent: a, driver: {source: none}}"))
    assert [variant.gpu for variant in loaded.variants.values()] == [True, False]


def test_properties_are_derived_declared_and_taken_away(load: Load) -> None:
    declared = "glance: {properties: {hw_video_model: null, hw_cpu_cores: 4, hw_pmu: true, os_version: '13.1'}}"
    found = load(one(f"{GPU}, {declared}")).variants["a"].properties
    assert "hw_video_model" not in found
    assert (found["hw_cpu_cores"], found["hw_pmu"], found["os_version"]) == ("4", "true", "13.1")
    assert (found["hw_firmware_type"], found["hw_machine_type"]) == ("uefi", "q35")


def test_a_release_has_a_code_name_and_a_number(load: Load) -> None:
    ubuntu = 'distribution: ubuntu, release: "24.04", source: cloud-image, path: x, signature: none'
    base = load(images(f"a: {{base: {{{ubuntu}}}, disk: {{size: 4GiB}}}}")).variants["a"].base
    assert base is not None
    assert (base.codename, base.version) == ("noble", "24.04")


def test_the_words_of_yaml_1_1_are_text(load: Load) -> None:
    assert load(one("environment: {DIB_A: yes, DIB_B: 'on'}")).variants["a"].environment == {
        "DIB_A": "yes",
        "DIB_B": "on",
    }


# --- Inheritance ----------------------------------------------------------------------------------------------------


def test_mappings_merge_lists_append_scalars_replace_and_null_removes(load: Load) -> None:
    loaded = load(
        images(
            "p: {abstract: true, disk: {size: 9GiB, filesystem: xfs}, packages: [a, b], keep: 5, rebuild_age: 7d}",
            "c: {parent: p, base: {distribution: debian, release: trixie}, disk: {size: 4GiB}, packages: [b, c], "
            "keep: 3, rebuild_age: null}",
        )
    )
    variant = loaded.variants["c"]
    assert (variant.disk.size, variant.disk.filesystem) == (4 * 2**30, "xfs")
    assert variant.packages == ("a", "b", "c")
    assert (variant.keep, variant.rebuild_age) == (3, None)


def test_a_list_that_null_removed_starts_again(load: Load) -> None:
    loaded = load(
        images(
            f"p: {{{DEBIAN}, packages: [a]}}",
            "q: {parent: p, packages: null}",
            "r: {parent: q, packages: [b]}",
        )
    )
    assert [variant.packages for variant in loaded.variants.values()] == [("a",), (), ("b",)]


def test_description_and_abstract_are_not_inherited(load: Load) -> None:
    loaded = load(images(f"p: {{abstract: true, description: Parent, {DEBIAN}}}", "c: {parent: p}"))
    assert list(loaded.variants) == ["c"]
    assert loaded.variants["c"].description == ""
    assert loaded.abstract == ("p",)


words = st.sampled_from(["a", "b", "c"])
leaves = st.one_of(st.none(), st.integers(0, 3), words, st.booleans())
lists = st.lists(words, max_size=4)
# As in images.yaml: a key is always a mapping, always a list or always a single value.
documents = st.fixed_dictionaries(
    {},
    optional={
        "single": leaves,
        "list": lists,
        "description": words,
        "abstract": st.booleans(),
        "mapping": st.fixed_dictionaries({}, optional={"single": leaves, "list": lists}),
    },
)


@given(documents, documents, documents)
def test_merging_is_associative(one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]) -> None:
    left = inheritance.merge(inheritance.merge(one, two), three)
    right = inheritance.merge(one, inheritance.merge(two, three))
    assert left == right


@given(st.lists(documents, min_size=1, max_size=4))
def test_no_inherited_list_has_repeats(chain: list[dict[str, Any]]) -> None:
    merged = inheritance.inherit(chain, own=chain[-1])
    for found in (merged.get("list", []), merged.get("mapping", {}).get("list", [])):
        assert len(found) == len(set(found))


@given(st.lists(documents, min_size=1, max_size=4))
def test_null_removes_and_leaves_no_trace(chain: list[dict[str, Any]]) -> None:
    removing = {"single": None, "list": None, "mapping": None}
    merged = inheritance.inherit([*chain, removing], own=removing)
    assert merged == {}


@given(st.lists(documents, min_size=2, max_size=4))
def test_a_description_is_not_inherited(chain: list[dict[str, Any]]) -> None:
    merged = inheritance.inherit(chain, own=chain[-1])
    assert merged.get("description") == chain[-1].get("description")
    assert "abstract" not in merged


@settings(max_examples=50)
@given(st.dictionaries(words, st.one_of(st.none(), words, st.just("unknown")), min_size=1))
def test_every_chain_ends(parents: dict[str, str | None]) -> None:
    for name in parents:
        found = inheritance.chain(name, parents)
        assert found[-1] == name
        assert len(found) == len(set(found))


# --- Selecting ------------------------------------------------------------------------------------------------------

FOUR = images(f"p: {{abstract: true, {DEBIAN}}}", "a-1: {parent: p}", "a-2: {parent: p}", "b: {parent: p}")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (None, ["a-1", "a-2", "b"]),
        ("b", ["b"]),
        ("b, a-1", ["b", "a-1"]),
        ("a-*", ["a-1", "a-2"]),
        ("b,*", ["b", "a-1", "a-2"]),
    ],
)
def test_names_lists_and_globs_select(names: str | None, found: list[str], load: Load) -> None:
    assert [variant.name for variant in load(FOUR).select(names)] == found


@pytest.mark.parametrize(
    ("names", "says"),
    [("a-3", "did you mean a-2"), ("zzz", "a-1, a-2, b"), ("z*", "a-1, a-2, b"), ("p", "parent"), (" ,", "a-1")],
)
def test_a_name_that_selects_nothing_is_an_error_with_a_suggestion(names: str, says: str, load: Load) -> None:
    with pytest.raises(CatalogError) as caught:
        load(FOUR).select(names)
    assert says in caught.value.remedy.lower()


# --- Clouds ---------------------------------------------------------------------------------------------------------

CLOUDS = "clouds:\n  prod: {glance: {visibility: public, tags: [live], properties: {hw_pmu: null}}}\n"


def test_a_cloud_changes_how_an_image_appears_there(load: Load) -> None:
    text = one("glance: {tags: [gpu], properties: {hw_pmu: true}}") + CLOUDS
    loaded = load(text)
    variant = loaded.variants["a"]
    there = loaded.for_cloud(variant, "prod")
    assert (there.glance.visibility, there.glance.tags) == ("public", ("gpu", "live"))
    assert "hw_pmu" not in there.properties
    assert variant.properties["hw_pmu"] == "true"


def test_a_cloud_that_is_not_mentioned_changes_nothing(load: Load) -> None:
    loaded = load(one("keep: 2") + CLOUDS)
    assert loaded.for_cloud(loaded.variants["a"], "lab") == loaded.variants["a"]


def test_a_mistake_in_a_cloud_is_reported_there(problems: Callable[[str], list[str]]) -> None:
    found = problems(one("keep: 2") + "clouds: {prod: {glance: {visibilty: public, properties: {hw_foo: 1}}}}\n")
    assert [line.split(" ")[0] for line in found] == [
        "clouds.prod.glance.visibilty",
        "clouds.prod.glance.properties.hw_foo",
    ]


def test_members_and_visibility_may_stand_in_different_places(load: Load) -> None:
    shared = one("glance: {visibility: shared}") + "clouds: {prod: {glance: {members: [p1]}}}\n"
    loaded = load(shared)
    assert loaded.for_cloud(loaded.variants["a"], "prod").glance.members == ("p1",)
    assert load(one("keep: 2") + "clouds: {prod: {glance: {visibility: shared, members: [p1]}}}\n")


@pytest.mark.parametrize(
    ("image", "cloud", "where"),
    [
        ("visibility: private", "members: [p1]", "clouds.prod.glance"),
        ("visibility: shared, members: [p1]", "visibility: public", "clouds.prod.glance"),
        ("members: [p1]", "tags: [live]", "images.a.glance"),
    ],
)
def test_members_of_an_image_that_is_not_shared_in_a_cloud_are_refused_at_their_place_in_the_file(
    image: str, cloud: str, where: str, problems: Callable[[str], list[str]]
) -> None:
    [found] = problems(one(f"glance: {{{image}}}") + f"clouds: {{prod: {{glance: {{{cloud}}}}}}}\n")
    assert found.startswith(f"{where} ")
    assert "write `visibility: shared`" in found


def test_a_cloud_has_its_own_disk_format_import_method_and_stores(load: Load) -> None:
    keys = "disk_format: raw, import_method: web-download, stores: [ceph, swift], web_download_url: https://x/builds"
    loaded = load(one("keep: 2") + f"clouds: {{prod: {{{keys}}}}}\n")
    assert loaded.delivery("prod") == Delivery(
        disk_format="raw",
        import_method="web-download",
        stores=("ceph", "swift"),
        web_download_url="https://x/builds",
    )


def test_all_stores_of_a_cloud_are_none_by_name(load: Load) -> None:
    assert load(one("keep: 2") + "clouds: {prod: {stores: all}}\n").delivery("prod").stores is None


def test_a_cloud_without_keys_of_its_own_gets_the_build_as_it_is(load: Load) -> None:
    loaded = load(one("keep: 2") + CLOUDS)
    assert loaded.delivery("prod") == loaded.delivery("lab") == Delivery()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("disk_format: vmdk", "vmdk is not a valid value; write one of: qcow2, raw"),
        ("import_method: web-download", "write `web_download_url: https://…`"),
        ("import_method: put, web_download_url: https://x/b", "remove `web_download_url`"),
        ("import_method: put, stores: [a, b]", "a plain upload goes to one store"),
        ("stores: [a b]", "this is not a valid store"),
        ("web_download_url: https://user:secret@x/b", "a password is a secret"),
        ("glance: {name: 'acme {name}'}", "only {variant}, the key under `images`, can be in braces"),
        ("glance: {name: ' x'}", "this is not a valid name"),
    ],
)
def test_a_delivery_that_cannot_be_is_refused_with_what_to_write(
    keys: str, says: str, problems: Callable[[str], list[str]]
) -> None:
    assert [line for line in problems(one("keep: 2") + f"clouds: {{prod: {{{keys}}}}}") if says in line]


def test_an_image_may_have_another_name_for_users_in_one_cloud(load: Load) -> None:
    text = images(f"a: {{{DEBIAN}}}", f"b: {{{DEBIAN}, glance: {{name: The b image}}}}")
    loaded = load(text + "clouds: {prod: {glance: {name: 'acme {variant}'}}}\n")
    a, b = loaded.variants["a"], loaded.variants["b"]
    assert (a.image_name, b.image_name) == ("a", "The b image")
    assert [loaded.for_cloud(each, "prod").image_name for each in (a, b)] == ["acme a", "acme b"]


@pytest.mark.parametrize(
    ("name_of_b", "clouds", "where"),
    [
        ("{variant}", "clouds: {prod: {glance: {name: gpu}}}\n", "clouds.prod.glance.name"),
        ("a", "clouds: {prod: {glance: {tags: [live]}}}\n", "images.b.glance.name"),
    ],
)
def test_two_images_of_a_cloud_never_have_the_same_name(
    name_of_b: str, clouds: str, where: str, problems: Callable[[str], list[str]]
) -> None:
    found = problems(images(f"a: {{{DEBIAN}}}", f"b: {{{DEBIAN}, glance: {{name: '{name_of_b}'}}}}") + clouds)
    assert len(found) == 1
    assert found[0].startswith(f"{where} (line")
    assert "a and b would both be called" in found[0]


# --- Mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "where", "says"),
    [
        ("bse: 1", "bse", "unknown key; did you mean base?"),
        ("name: x", "name", "unknown key"),
        ("glance: {visibilty: public}", "glance.visibilty", "unknown key; did you mean visibility?"),
        ("kernel: {flavour: generik}", "kernel.flavour", "generik is not a valid value; did you mean generic?"),
        ("kernel: generic", "kernel", "write a mapping"),
        ("packages: vim", "packages", "write a list"),
        ("packages: [vim, Vim!]", "packages[1]", "this is not a valid package name"),
        ("elements: [a b]", "elements[0]", "this is not a valid element"),
        ("keep: two", "keep", "write a whole number"),
        ("keep: 0", "keep", "0 is out of range; write 1 or more"),
        ("abstract: perhaps", "abstract", "write true or false"),
        ("rebuild_age: 7 days", "rebuild_age", 'write hours, days or weeks, for example "36h"'),
        ("rebuild_age: 7", "rebuild_age", 'write hours, days or weeks, for example "36h"'),
        ("cuda: {toolkit: 12.10}", "cuda.toolkit", 'write "12.10" in quotes'),
        ("environment: {DIB_A: 1}", "environment.DIB_A", 'write "1" in quotes'),
        ("environment: {PATH: x}", "environment.PATH", "write a name that starts with DIB_"),
        ("environment: {DIB_RELEASE: sid}", "environment.DIB_RELEASE", "this follows from base.release"),
        ("environment: {DIB_NGC_TOKEN: x}", "environment.DIB_NGC_TOKEN", "this looks like a secret"),
        ("environment: {DIB_DEV_USER_PASSWORD: x}", "environment.DIB_DEV_USER_PASSWORD", "this looks like a secret"),
        ("environment: {DIB_LICENSE_KEY: x}", "environment.DIB_LICENSE_KEY", "this looks like a secret"),
        ("parent: [b]", "parent", "write the name of one other image"),
        ("glance: {members: [p1]}", "glance", "write `visibility: shared`"),
        ("glance: {min_ram: 0}", "glance.min_ram", "write 1 or more"),
        ("glance: {properties: {hw_pmu: 1.5}}", "glance.properties.hw_pmu", "write it in quotes"),
        ("glance: {properties: {hw_fimware_type: uefi}}", "glance.properties.hw_fimware_type", "hw_firmware_type?"),
        ("glance: {properties: {os_require_quiesce: yes}}", "glance.properties.os_require_quiesce", "guest agent"),
        ("driver: {source: archive, modules: open, branch: 580}", "", "13's own archive has only driver 550"),
    ],
)
def test_a_mistake_is_reported_with_its_path_and_a_remedy(
    rest: str, where: str, says: str, problems: Callable[[str], list[str]]
) -> None:
    path = f"images.a.{where}".rstrip(".")
    [found] = problems(one(rest))
    assert found.startswith(f"{path} (line 3): ")
    assert says in found


@pytest.mark.parametrize(
    ("base", "where", "says"),
    [
        (
            "release: 24.10, distribution: ubuntu",
            ".release",
            '24.10 without quotes is not text; write "24.10" in quotes',
        ),
        ("release: trixi, distribution: debian", ".release", 'debian "trixi" is not known; write "trixie"'),
        ("release: trixie, distribution: debain", ".distribution", "did you mean debian?"),
        ("distribution: debian", ".release", "this key is missing; write `release: …`"),
        ("release: trixie, distribution: debian, url: 'https://x/y'", "", "a bootstrapped base has no `url`"),
        ("release: '24.04', distribution: ubuntu, source: cloud-image", "", "write either its `url`"),
        (
            "release: '24.04', distribution: ubuntu, source: cloud-image, url: 'https://x/y'",
            "",
            "a download must be checked; write `sha256sums_url`",
        ),
        ("release: '24.04', distribution: ubuntu, url: ftp", ".url", "write one that starts with https://"),
        (f"release: trixie, distribution: debian, signed_by: {'A' * 40}", "", "has no `signed_by`"),
        (f"release: '9', distribution: rhel, {SIGNED_SUMS}", "", "no key is known that signs rhel's images"),
        (f"release: '24.04', distribution: ubuntu, {SIGNED_SUMS}, signed_by: {'A' * 40}", "", "write its `keyring`"),
        ("release: '24.04', distribution: ubuntu, url: 'https://x/'", ".url", "ends with the file's name"),
        ("release: '24.04', distribution: ubuntu, url: 'https://x/y/..'", ".url", "ends with the file's name"),
        ("release: '24.04', distribution: ubuntu, url: 'https://me:pw@x/y'", ".url", "a password is a secret"),
        ("release: '24.04', distribution: ubuntu, path: ~nobody-here/y", ".path", "write an absolute path"),
    ],
)
def test_a_mistake_in_the_base_is_reported(
    base: str, where: str, says: str, problems: Callable[[str], list[str]]
) -> None:
    [found] = problems(images(f"a: {{disk: {{size: 4GiB}}, base: {{{base}}}}}"))
    assert found.startswith(f"images.a.base{where} (line 3): ")
    assert says in found


@pytest.mark.parametrize("size", ["20GB", "20", "0GiB", "-1GiB", "1.5GiB", "20 GiB", "100MiB", "[]"])
def test_a_size_without_a_sound_unit_is_refused(size: str, problems: Callable[[str], list[str]]) -> None:
    [found] = problems(images(f"a: {{base: {{distribution: debian, release: trixie}}, disk: {{size: {size}}}}}"))
    assert found.startswith("images.a.disk.size (line 3): ")
    assert "GiB" in found or "MiB" in found


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a..b", "../a", "a/b", "a b", "a" * 65, "a,b", "a*"])
def test_a_name_that_is_no_safe_folder_is_refused(name: str, problems: Callable[[str], list[str]]) -> None:
    [found] = problems(images(f"'{name}': {{{DEBIAN}}}"))
    assert "this is not a valid name for an image" in found


def test_an_unknown_parent_is_reported_with_a_close_match(problems: Callable[[str], list[str]]) -> None:
    found = problems(images(f"gpu-guest: {{{DEBIAN}}}", "b: {parent: gpu-gest}"))
    assert found == ["images.b.parent (line 4): there is no image gpu-gest; did you mean gpu-guest?"]


def test_a_circle_of_parents_is_reported_with_the_way_round(problems: Callable[[str], list[str]]) -> None:
    found = problems(images("a: {parent: b}", "b: {parent: c}", "c: {parent: a}"))
    assert len(found) == 3
    assert "(a → b → c → a)" in found[0]


def test_an_image_that_is_its_own_parent_is_reported(problems: Callable[[str], list[str]]) -> None:
    [found] = problems(images("a: {parent: a}"))
    assert "(a → a)" in found


def test_an_inherited_mistake_is_reported_once_where_it_is_written(problems: Callable[[str], list[str]]) -> None:
    found = problems(
        images(
            "p: {abstract: true, disk: {size: 4GB}, packages: [a, B!]}",
            "b: {parent: p, base: {distribution: debian, release: trixie}, packages: [c]}",
            "c: {parent: b, packages: [d]}",
        )
    )
    assert [line.split(":")[0] for line in found] == ["images.p.disk.size (line 3)", "images.p.packages[1] (line 3)"]


def test_an_image_made_from_nothing_is_reported(problems: Callable[[str], list[str]]) -> None:
    [found] = problems(images("a: {disk: {size: 4GiB}}"))
    assert found.startswith("images.a (line 3): ")
    assert "write its `base`" in found


def test_an_abstract_image_may_lack_what_its_children_add(load: Load) -> None:
    assert load(images("p: {abstract: true, base: {distribution: debian}}", f"c: {{parent: p, {DEBIAN}}}")).variants


def test_every_mistake_is_reported_at_once_in_the_files_order(problems: Callable[[str], list[str]]) -> None:
    found = problems(
        "version: 1\n"
        "recrods: x\n"
        "images:\n"
        "  a:\n"
        "    parent: z\n"
        "    base: {distribution: ubuntu, release: 24.04, sorce: x}\n"
        "    bse: 1\n"
        "  b:\n"
        f"    {DEBIAN.split(', disk', maxsplit=1)[0]}\n"
        "    disk: {size: 20GB}\n"
        "    driver: {source: archive, modules: open}\n"
        "    glance: {properties: {os_secure_boot: required, hw_machine_type: null}}\n"
        "    flavors: [g1]\n"
        "    keep: 3\n"
        "    keep: 4\n"
    )
    assert [line.split(":")[0] for line in found] == [
        "recrods (line 2)",
        "images.a.parent (line 5)",
        "images.a.base.release (line 6)",
        "images.a.base.sorce (line 6)",
        "images.a.bse (line 7)",
        "images.b.disk.size (line 10)",
        "images.b.glance.properties.os_secure_boot (line 12)",
        "images.b.glance.properties.os_secure_boot (line 12)",
        "images.b.flavors (line 13)",
        "images.b.keep (line 15)",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version: 1\nimages: [", "line 3, column 1"),
        ("version: 1\nimages:\n\ta: {}", "line 3, column 1"),
        ("version: 1\nimages: {a: {}}\n---\nversion: 1", "line 3"),
        ("version: \x01", "is not valid YAML"),
    ],
)
def test_what_is_no_yaml_is_reported_with_its_line(text: str, says: str, load: Load) -> None:
    with pytest.raises(CatalogError) as caught:
        load(text)
    assert says in caught.value.what
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file must be a mapping"),
        ("- a", "the file must be a mapping"),
        ("version: 1", "images: this key is missing"),
        ("version: 1\nimages: {}", "no image is defined; write at least one"),
        ("version: 2\nimages: {}", "version (line 1): 2 is not a valid value"),
        ("version: '1'\nimages: {}", "version (line 1)"),
        ("version: 1\nimages: {a: }", "images.a (line 2): this has the wrong type; write a mapping"),
        ("version: 1\nimages: {a: {disk: &x {size: 4GiB}}, b: {disk: *x}}", "anchors and aliases are not supported"),
        ("version: 1\nimages: {a: !secret {}}", "secret is not supported"),
        ("version: 1\nimages: {[a]: {}}", "a key must be text"),
        ("version: 1\nimages: &x {a: *x}", "anchors and aliases are not supported"),
    ],
)
def test_a_file_of_the_wrong_shape_is_refused(text: str, says: str, problems: Callable[[str], list[str]]) -> None:
    assert [line for line in problems(text) if says in line]


# Everything that could stand where something else is meant, in the places that the catalog reads.
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.sampled_from(["", "a", "24.04", "x://y"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "size"]), inner)),
    max_leaves=5,
)
sections = ["base", "disk", "driver", "cuda", "glance", "secrets", "environment", "packages", "parent", "abstract"]
strange_images = st.dictionaries(st.sampled_from(sections), anything)
strange_files = st.fixed_dictionaries(
    {"version": st.sampled_from([1, "1", None])},
    optional={
        "images": st.one_of(anything, st.dictionaries(st.sampled_from("ab"), st.one_of(anything, strange_images))),
        "clouds": st.one_of(anything, st.dictionaries(st.just("prod"), st.dictionaries(st.just("glance"), anything))),
        "records": anything,
    },
)


@settings(max_examples=150, deadline=None)
@given(strange_files)
def test_any_file_is_a_catalog_or_an_error_that_names_the_place(content: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        with contextlib.suppress(CatalogError):
            assert loader.load(path).variants


@pytest.mark.parametrize("depth", [20, 5000])
def test_a_file_that_is_nested_too_deeply_is_refused(depth: int, load: Load) -> None:
    with pytest.raises(CatalogError, match="nested too deeply"):
        load("version: 1\nimages: " + "[" * depth + "]" * depth)


def test_a_catalog_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot read"):
        loader.load(tmp_path / "none.yaml")


@pytest.mark.parametrize("nothing", ["[]", "null"])
def test_a_file_that_still_has_empty_flavors_is_read(nothing: str, load: Load) -> None:
    assert load(one(f"flavors: {nothing}")).variants.keys() == {"a"}


def test_flavors_are_refused_where_they_are_written(problems: Callable[[str], list[str]]) -> None:
    found = problems(images(f"a: {{{DEBIAN}, flavors: [g1]}}", "b: {parent: a}"))
    assert found == ["images.a.flavors (line 3): flavors are not supported; remove this key"]


IMPORT = f"kind: import, disk: {{size: 64GiB}}, source: {{path: win.vhdx, sha256: {'ab' * 32}}}"
KEYS = "secrets: {module-signing-key: {env: K}, module-signing-certificate: {env: C}}"
UBUNTU = (
    'base: {distribution: ubuntu, release: "24.04", source: cloud-image, path: x, signature: none}, disk: {size: 8GiB}'
)
ROCKY = UBUNTU.replace('ubuntu, release: "24.04"', 'rocky, release: "9"')
ALMALINUX = ROCKY.replace("rocky", "almalinux")
RUNFILE = f"driver: {{source: runfile, path: x, sha256: {'ab' * 32}, version: '580.1', fabric_manager: true}}"
WINDOWS = 'guest: {type: windows, distribution: windows, version: "11"}'


def test_a_windows_image_gets_what_windows_needs(load: Load) -> None:
    found = load(images(f"a: {{{IMPORT}, {WINDOWS}, gpus: [a16]}}")).variants["a"].properties
    assert (found["os_type"], found["os_distro"], found["os_version"]) == ("windows", "windows", "11")
    assert (found["hw_machine_type"], found["hw_firmware_type"]) == ("q35", "uefi")
    assert (found["hw_disk_bus"], found["hw_scsi_model"]) == ("scsi", "virtio-scsi")
    assert found["img_hide_hypervisor_id"] == "true"
    assert (found["hw_tpm_model"], found["hw_tpm_version"]) == ("tpm-crb", "2.0")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (IMPORT, "an imported image needs `source`, and `guest`"),
        (f"{IMPORT}, {WINDOWS}, packages: [htop]", "remove `packages`"),
        (f"{IMPORT}, {WINDOWS}, base: {{distribution: debian, release: trixie}}", "remove `base`"),
        (f"{DEBIAN}, {WINDOWS}", "write `kind: import`"),
        (
            f"{ROCKY}, driver: {{source: local, path: p}}, containers: docker",
            "Rocky Linux has no Docker package; write `containers: podman`",
        ),
        (f"{ALMALINUX}, kernel: {{flavour: hwe}}", "almalinux has no hwe kernel"),
        (
            f'{ALMALINUX}, cuda: {{toolkit: "12.8", samples: true}}',
            "AlmaLinux's archive has no sources of CUDA's samples",
        ),
        (f"{DEBIAN}, driver: {{source: archive, fabric_manager: true}}", "Debian's archive has no fabric manager"),
        (f"{IMPORT}, {WINDOWS}, cuda: {{toolkit: archive}}", "remove `cuda`"),
        (f"{IMPORT}, {WINDOWS}, kernel: {{flavour: hwe}}", "remove `kernel`"),
        (f"{DEBIAN}, {GPU}, gpus: [h1000]", "h1000 is not a known GPU; did you mean h100?"),
        (f"{DEBIAN}, {GPU}, gpus: [quantum]", "`./inv gpus` lists them"),
        (f"{DEBIAN}, gpus: [h100]", "`gpus` needs a driver"),
        (f"{DEBIAN}, driver: {{source: none}}, gpus: [h100]", "`gpus` needs a driver"),
        (f"{DEBIAN}, containers: podman", "write `driver`, or `containers: null`"),
        (f"{UBUNTU}, driver: {{source: precompiled, branch: 580, desktop: true}}", "remove `desktop`"),
        (f'{DEBIAN}, cuda: {{toolkit: "12.7"}}', "CUDA 12.7 is not in pipelines/gpus/gpus.yaml"),
        (
            f"{DEBIAN}, kernel: {{flavour: hwe}}",
            "debian has no hwe kernel; write `kernel: {flavour: generic or cloud}`",
        ),
        (f"{DEBIAN}, {GPU}, {KEYS.replace('{env: C}', '{pkcs11: pkcs11:x}')}", "a certificate is not in a token"),
        (f"{DEBIAN}, driver: {{source: nvidia-repo, branch: 580}}", "nvidia_repository: {keyring_sha256: …}"),
        (f"{DEBIAN}, {GPU}, containers: podman", "the container toolkit comes from NVIDIA's repository"),
        (f"{DEBIAN}, cuda: {{samples: true}}", "`samples` needs a CUDA toolkit"),
        (
            f"{DEBIAN}, driver: {{source: archive, modules: open, path: x}}",
            "`path` is for `source: runfile` or `local`",
        ),
        (f"{DEBIAN}, driver: {{source: local, modules: open}}", "write its `path`"),
        (f"{DEBIAN}, driver: {{source: archive, modules: open, version: '550.1'}}", "one version of a branch"),
        (f"{DEBIAN}, {RUNFILE}", "a runfile has no fabric manager"),
        (f"{DEBIAN}, driver: {{source: runfile, path: x, modules: open}}", "write its `sha256`"),
        (f"{DEBIAN}, driver: {{source: archive, modules: open, vgpu: true}}", "write `source: local` or `runfile`"),
        (f"{DEBIAN}, {GPU}, secrets: {{module-signing-key: {{env: K}}}}", "write both under `secrets`"),
        (f"{DEBIAN}, {KEYS}", "without a driver there is no module to sign"),
        (f"{UBUNTU}, driver: {{source: precompiled, branch: 580}}, {KEYS}", "signed by their distribution"),
        (
            f"{DEBIAN}, {GPU}, secrets: {{module-signing-key: {{pkcs11: 'pkcs11:token=t?pin-value=1'}}}}",
            "a PIN is a secret",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_with_what_to_write(
    lines: str, says: str, problems: Callable[[str], list[str]]
) -> None:
    assert [line for line in problems(images(f"a: {{{lines}}}")) if says in line]


def test_a_site_key_or_the_distributions_signature_allows_secure_boot(load: Load) -> None:
    loaded = load(one(f"{GPU}, {KEYS}, glance: {{properties: {{os_secure_boot: required}}}}"))
    assert loaded.variants["a"].signed_modules


def test_a_relative_path_is_relative_to_the_catalogs_folder(load: Load, tmp_path: Path) -> None:
    driver = load(one("driver: {source: local, path: packages, modules: open}")).variants["a"].driver
    assert driver is not None
    assert driver.path == tmp_path / "packages"


def test_a_secret_is_in_one_place(problems: Callable[[str], list[str]]) -> None:
    found = problems(one("secrets: {module-signing-key: {file: /x, env: Y}}"))
    place = "images.a.secrets.module-signing-key (line 3)"
    assert f"{place}: a secret has one source; write either `file`, `env` or `pkcs11`" in found


def test_an_image_that_is_to_be_raw_itself_is_told_where_to_write_that(problems: Callable[[str], list[str]]) -> None:
    found = problems(images("a: {base: {distribution: debian, release: trixie}, disk: {size: 4GiB, format: raw}}"))
    says = "builds are always qcow2; for a cloud that needs raw, write `clouds: {NAME: {disk_format: raw}}`"
    assert found == [f"images.a.disk.format (line 3): {says}"]


@pytest.mark.parametrize(
    ("written", "place"),
    [("builds", "builds"), ("s3://bucket/x", "s3://bucket/x"), ("kept/here", "FOLDER/kept/here"), ("/srv/r", "/srv/r")],
)
def test_records_are_the_builds_a_url_or_a_folder_beside_the_file(
    load: Load, tmp_path: Path, written: str, place: str
) -> None:
    assert load(one("keep: 2") + f"records: {written}").records == place.replace("FOLDER", str(tmp_path))


@pytest.mark.parametrize("url", ["ftp://me:hunter2@host/x", "s3://b/x?token=hunter2", "sftp://me:hun#ter2@host/x"])
def test_records_with_a_password_are_refused_without_repeating_it(
    problems: Callable[[str], list[str]], url: str
) -> None:
    (found,) = problems(one("keep: 2") + f"records: '{url}'")
    assert found.startswith("records (line 4): a password or token is a secret; remove it")
    assert "ter2" not in found


def test_a_driver_that_is_none_may_keep_what_it_inherits(load: Load) -> None:
    driver = "driver: {source: local, path: packages, modules: open, fabric_manager: true}"
    loaded = load(images(f"a: {{{DEBIAN}, {driver}}}", "b: {parent: a, driver: {source: none, path: null}}"))
    with_driver, without = (element_selection.elements(loaded.variants[name])["driver"] for name in "ab")
    assert "fabric-manager" in with_driver
    assert without == ()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_catalog_takes_the_kernels_that_have_packages(distribution: str) -> None:
    names = (PROJECT / "elements/target-kernel/pkg-map").read_text(encoding="utf-8")
    row = DISTRIBUTIONS[distribution]
    found = [
        section.get(each, {}) for section in json.loads(names).values() for each in (distribution, row.family.name)
    ]
    flat = json.dumps(found)
    there = [flavour for flavour in ("generic", "cloud", "hwe") if f"kernel-image-{flavour}-amd64" in flat]
    assert there == list(row.kernels)


def test_the_schema_is_json() -> None:
    assert json.loads(json_schema.text()) == json_schema.json_schema()
