"""Laws of a release, over random histories that break off anywhere, in a real Glance."""

import contextlib
import itertools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.artifacts.store import Build
from pipelines.catalog.variant import Variant
from pipelines.glance import client
from pipelines.release import cloud_images, image_metadata, prune, publish
from pipelines.util.errors import PipelineError
from tests.support.cloud_fixtures import NOW, make_variant, verified
from tests.support.fakes.proxy import Proxy, Request

MakeBuild = Callable[..., Build]
VERBS = ("release", "release an older one", "upload", "promote", "roll back", "prune")
# What is done, and after how many changes the connection is lost for good; the last change's answer too, or not.
steps = st.tuples(st.sampled_from(VERBS), st.one_of(st.none(), st.integers(0, 6)), st.booleans())


class World:
    """A variant in a cloud behind a proxy: what was made of it, and what users saw after each change."""

    def __init__(self, cloud: client.Cloud, behind: client.Cloud, proxy: Proxy, make_build: MakeBuild) -> None:
        self.cloud, self.behind, self.proxy = cloud, behind, proxy
        self.variant: Variant = make_variant()
        self.builds: list[Build] = []
        self.seen: list[list[str]] = []
        self._make = make_build
        self._later = itertools.count(1)

    def visible(self) -> list[str]:
        found = self.cloud.images(owner=self.cloud.project_id, hidden=False, properties={"name": self.variant.name})
        return [image.properties[image_metadata.BUILD_ID] for image in found if image.status == "active"]

    def do(self, verb: str) -> None:
        match verb:
            case "release" | "upload":
                self.builds.append(self._make(self.variant, later=next(self._later)))
                self._release(self.builds[-1], promotes=verb == "release")
            case "release an older one":
                self._release(self.builds[0], promotes=True)
            case "promote":
                publish.promote(self.behind, self.variant, None, lambda _: None, NOW)
            case "roll back":
                publish.rollback(self.behind, self.variant, None, lambda _: None, NOW)
            case _:
                ids = tuple(image.id for image in cloud_images.ours(self.cloud, self.variant.name))
                prune.prune(self.behind, self.variant.name, ids, NOW + timedelta(days=3650))

    def close(self) -> None:
        """Make room for the next history."""
        self.proxy.reset()
        for image in self.cloud.images(
            owner=self.cloud.project_id, properties={image_metadata.VARIANT: self.variant.name}
        ):
            self.cloud.delete(image.id)

    def _release(self, build: Build, *, promotes: bool) -> None:
        publish.release(self.behind, self.variant, build, verified(build), NOW, promotes=promotes)

    def cut_after(self, changes: int | None, *, answer_too: bool) -> None:
        self.proxy.reset()
        self.proxy.after_change = lambda: self.seen.append(self.visible())
        if changes is None:
            return
        count = itertools.count()

        def fault(request: Request) -> None:
            number = next(count)
            request.drop, request.drop_answer = number > changes, answer_too and number == changes

        self.proxy.on("POST|PUT|PATCH|DELETE", "", fault, always=True)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(steps, min_size=2, max_size=6))
def test_users_always_have_one_good_image_and_nothing_is_lost_or_touched_that_is_not_ours(
    *,
    cloud: client.Cloud,
    proxy: Proxy,
    proxied: Path,
    make_build: MakeBuild,
    history: list[tuple[str, int | None, bool]],
) -> None:
    world = World(cloud, client.connect("local", file=proxied), proxy, make_build)
    with contextlib.closing(world):
        _live(world, history)


def _live(world: World, history: list[tuple[str, int | None, bool]]) -> None:
    """Go through a history, and look after each step."""
    cloud = world.cloud
    world.do("release")
    (ours,) = cloud_images.current(cloud, world.variant.name)
    theirs = cloud.create(
        f"00000000-0000-4000-9000-{next(_ids):012d}",
        name=world.variant.name,
        disk_format="qcow2",
        min_disk=1,
        min_ram=0,
        tags=("theirs",),
        properties={"image_type": "snapshot", **ours.properties},
    )
    for verb, changes, answer_too in history:
        world.cut_after(changes, answer_too=answer_too)
        with contextlib.suppress(PipelineError):
            world.do(verb)
        assert world.visible(), f"after {verb} there was no good image"
    world.cut_after(None, answer_too=False)
    world.do("release")
    assert all(world.seen), "there was a moment without a good image"
    assert world.visible() == [world.builds[-1].build_id]
    assert cloud.image(theirs.id) == theirs
    known = {image.id for image in cloud_images.inventory(cloud) if image.variant == world.variant.name}
    everything = cloud.images(owner=cloud.project_id, properties={image_metadata.VARIANT: world.variant.name})
    assert {image.id for image in everything} - known == {theirs.id}


_ids = itertools.count(1)
