"""What does this project do, in one command?

The main job for real: build debian-cuda, start a local Keystone and Glance, release the image there, show it.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from pipelines import (
    console,
    devcloud,
    glance,
    making,
    records,
    released,
    releasing,
    report,
    report_status,
    situation,
    survey,
)
from pipelines.catalog import Catalog
from pipelines.situation import Site

VARIANT = "debian-cuda"


def run(catalog: Catalog, builds: Path, cloud_root: Path, now: Callable[[], datetime]) -> None:
    """Do it; what is there and current already is not done again."""
    variants = catalog.select(VARIANT)
    console.note("1/4  a real Keystone and Glance on loopback; ./inv cloud.down stops them")
    running = devcloud.up(cloud_root)
    cloud = glance.connect("local", extra=running.clouds_file)
    console.note("2/4  the plan")
    site = Site(catalog=catalog, root=builds, records=records.open(catalog.records, builds), clouds=[cloud])
    actions = situation.planned(site, variants, now(), asks_archives=True)
    report.actions(actions, as_json=False)
    if any(action.verb == "build" for action in actions):
        console.note("3/4  the build: diskimage-builder, with the driver compiled for the guest's kernel (minutes)")
        making.build(variants, builds, now, force=True)  # the plan knows what the cloud has, too
    console.note("4/4  the release")
    if actions:
        releasing.upload([catalog.for_cloud(variant, cloud.name) for variant in variants], cloud, builds, None, now)
    report_status.show(survey.survey(site, variants, now()), as_json=False)
    _show_properties(cloud)


def _show_properties(cloud: glance.Cloud) -> None:
    for image in released.current(cloud, VARIANT):
        console.table(f"Properties of {image.name}", ("property", "value"), sorted(image.properties.items()))
    console.say('Look yourself: eval "$(./inv cloud.env)"; .venv/bin/glance image-list')
