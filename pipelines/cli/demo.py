"""The main job in one command: build debian-cuda, start a local Keystone and Glance, release the image there."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from pipelines.artifacts import records
from pipelines.catalog.loader import Catalog
from pipelines.devcloud import manager
from pipelines.glance import client
from pipelines.release import cloud_images
from pipelines.reports import tables
from pipelines.util import console
from pipelines.workflows import build, release, status
from pipelines.workflows import site as workflows_site
from pipelines.workflows.site import Site

VARIANT = "debian-cuda"


def run(catalog: Catalog, builds: Path, cloud_root: Path, now: Callable[[], datetime]) -> None:
    """Run the demonstration. What is done already, and current, is not done again."""
    variants = catalog.select(VARIANT)
    console.note("1/4  a real Keystone and Glance on loopback; ./inv cloud.down stops them")
    running = manager.up(cloud_root)
    cloud = client.connect("local", file=running.clouds_file)
    console.note("2/4  the plan")
    site = Site(catalog=catalog, root=builds, records=records.open(catalog.records, builds), clouds=[cloud])
    actions = workflows_site.read_state(site, variants, online=True).actions(now())  # the build warns, too
    tables.actions(actions, as_json=False)
    if any(action.verb == "build" for action in actions):
        console.note("3/4  the build: diskimage-builder, with the driver compiled for the guest's kernel (minutes)")
        build.build(variants, builds, now, force=True)  # the plan has looked at the cloud as well
    console.note("4/4  the release")
    if actions:
        release.upload([catalog.for_cloud(variant, cloud.name) for variant in variants], cloud, builds, None, now)
    tables.status(status.survey(site, variants, now()), as_json=False)
    _show_properties(cloud)


def _show_properties(cloud: client.Cloud) -> None:
    for image in cloud_images.current(cloud, VARIANT):
        console.table(f"Properties of {image.name}", ("property", "value"), sorted(image.properties.items()))
    console.say('See for yourself: eval "$(./inv cloud.env)"; .venv/bin/glance image-list')
