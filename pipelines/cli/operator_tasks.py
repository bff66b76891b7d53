"""The tasks of an operator: what gpu-images has, and ./inv with those of the project's development."""

from invoke import Collection

from pipelines.cli import ci, clouds, images


def collection() -> Collection:
    """All of them, those of the local cloud as `cloud.…`."""
    found = Collection(
        images.list_images,
        images.show,
        images.plan,
        images.build,
        images.verify,
        images.gpus,
        images.diff,
        images.schema,
        images.doctor,
        images.cache,
        clouds.upload,
        clouds.refresh,
        clouds.promote,
        clouds.rollback,
        clouds.prune,
        clouds.status,
        clouds.metrics,
        clouds.demo,
        ci.ci,
    )
    found.add_collection(Collection("cloud", clouds.cloud_up, clouds.cloud_down, clouds.cloud_env))
    return found
