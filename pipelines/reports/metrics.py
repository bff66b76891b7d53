"""Metrics for monitoring, in Prometheus's text format.

How old the images are that users get; how long the newest builds took, how large they are, whether they are good; what
failed. Names follow Prometheus's rules (https://prometheus.io/docs/practices/naming/). Ages are for people; alerts
compare the timestamps with the time, and so notice when this file is no longer written.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipelines.artifacts import records, store
from pipelines.artifacts.records import Record, Records
from pipelines.catalog.variant import Variant
from pipelines.glance.client import Cloud
from pipelines.plan.model import CloudImage
from pipelines.release import cloud_images
from pipelines.util import console, failures, files
from pipelines.util.errors import HostError, PipelineError

_PREFIX = "gpu_image_"
_FAILED = frozenset({store.FAILED, "leftover"})
_ON_RECORD = {  # of the newest complete build of each variant: the name's rest → its explanation
    "build_timestamp_seconds": "When the newest complete build started, as Unix time",
    "build_duration_seconds": "How long the newest complete build took",
    "size_bytes": "Size of the newest image's file",
    "virtual_size_bytes": "Size of the newest image's disk",
    "tree_size_bytes": "Size of the files in the newest image",
    "verification_passed": "Whether the newest build is good; absent until it is verified",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A cloud and its current images, or why these are not known."""

    cloud: str
    current: Sequence[CloudImage] = ()
    error: PipelineError | None = None


def write(
    variants: Sequence[Variant],
    builds: Path,
    known: Records,
    clouds: Mapping[str, Callable[[], Cloud]],
    now: datetime,
    *,
    output: Path | None,
) -> None:
    """Write the metrics to a file, whole or not at all (for node_exporter's textfile collector), or to stdout.

    A cloud that does not answer is in the metrics, and raised when they are written.
    """
    asked = [_asked(name, connect, {variant.name for variant in variants}) for name, connect in clouds.items()]
    content = text(variants, builds, known, asked, now)
    if output is None:
        console.say(content.decode().rstrip("\n"))
    else:
        _replace(output, content)
    with failures.each([each.cloud for each in asked]) as one:
        for each in asked:
            with one(each.cloud):
                if each.error is not None:
                    raise each.error


def text(variants: Sequence[Variant], builds: Path, known: Records, asked: Sequence[Asked], now: datetime) -> bytes:
    """All metrics in Prometheus's text format."""
    newest = {variant.name: records.everywhere(variant.name, builds, known)[-1:] for variant in variants}
    recorded = {name: found[0] for name, found in newest.items() if found}
    families = [*_of_builds(recorded), _failed(variants, builds), *(_of_clouds(asked, now) if asked else ())]

    class Collected(Collector):
        def collect(self) -> list[GaugeMetricFamily]:
            return families

    registry = CollectorRegistry()
    registry.register(Collected())
    return generate_latest(registry)


def _asked(name: str, connect: Callable[[], Cloud], variants: set[str]) -> Asked:
    try:
        images = cloud_images.inventory(connect())
    except PipelineError as error:
        if failures.stops_everything(error):
            raise
        return Asked(cloud=name, error=error)
    return Asked(cloud=name, current=[each for each in images if each.state == "current" and each.variant in variants])


def _of_builds(newest: Mapping[str, Record]) -> Iterator[GaugeMetricFamily]:
    values = {name: _values(record) for name, record in newest.items()}
    for rest, explanation in _ON_RECORD.items():
        family = _gauge(rest, explanation, "variant")
        for name, found in values.items():
            if (value := found[rest]) is not None:
                family.add_metric([name], value)
        yield family
    layers = _gauge("build_layer_duration_seconds", "How long the newest build's layers took", "variant", "layer")
    for name, record in newest.items():
        for layer, seconds in record.manifest.layers.items():
            layers.add_metric([name, layer], seconds)
    yield layers


def _values(record: Record) -> Mapping[str, float | None]:
    made, verification = record.manifest, record.verification
    return {
        "build_timestamp_seconds": datetime.fromisoformat(made.created_at).timestamp(),
        "build_duration_seconds": made.seconds or None,
        "size_bytes": made.artifact.size,
        "virtual_size_bytes": made.artifact.virtual_size,
        "tree_size_bytes": made.scratch.get("tree"),
        "verification_passed": None if verification is None else float(verification.passed),
    }


def _failed(variants: Sequence[Variant], builds: Path) -> GaugeMetricFamily:
    family = _gauge("failed_builds", "Failed builds whose logs are on this host", "variant")
    for variant in variants:
        count = sum(build.state in _FAILED for build in store.builds(builds, variant.name))
        family.add_metric([variant.name], count)
    return family


def _of_clouds(asked: Sequence[Asked], now: datetime) -> Iterator[GaugeMetricFamily]:
    up = _gauge("cloud_up", "Whether the cloud listed its images", "cloud")
    age = _gauge("current_age_seconds", "Time since the image that users get was built", "cloud", "variant")
    built = _gauge("current_timestamp_seconds", "When the image that users get was built", "cloud", "variant")
    about = _gauge("current_info", "Which build and image users get", "cloud", "variant", "build_id", "image_id")
    for each in asked:
        up.add_metric([each.cloud], float(each.error is None))
        for image in each.current:
            about.add_metric([each.cloud, image.variant, image.build_id, image.id], 1)
        for image in _newest(each.current):
            made_at = _made_at(image)
            age.add_metric([each.cloud, image.variant], (now - made_at).total_seconds())
            built.add_metric([each.cloud, image.variant], made_at.timestamp())
    yield from (up, age, built, about)


def _newest(current: Sequence[CloudImage]) -> Collection[CloudImage]:
    """One image of each variant, by the rule of a promotion; one that was interrupted has left two current images."""
    by_age = sorted(current, key=lambda image: (not image.rolled_back, *image.age))
    return {image.variant: image for image in by_age}.values()


def _made_at(image: CloudImage) -> datetime:
    """When its build started, by the build ID; the upload may be much later."""
    return store.built_at(image.build_id) or image.created_at


def _gauge(rest: str, explanation: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}{rest}", explanation, labels=labels)


def _replace(output: Path, content: bytes) -> None:
    try:
        files.write(output, content)
    except OSError as error:
        raise HostError(
            f"cannot write {output}: {error.strerror}",
            remedy="Name a file in an existing folder in which you may write.",
        ) from error
