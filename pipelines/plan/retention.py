"""Retention in a cloud: which images may be deleted.

Pure. A current image is never deleted; it is hidden before. Whether an image still may go is tested once more, on the
cloud's present answer, just before it is deleted (release/prune.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from pipelines.plan import reasons
from pipelines.plan.model import Action, CloudImage, Inventory, Target
from pipelines.plan.variant_state import VariantState, variant_states


def prunable(targets: Iterable[Target], inventory: Inventory, now: datetime) -> list[Action]:
    """What may be deleted in the targets' clouds when nothing else is done: what is current stays current."""
    return [
        action
        for state in variant_states(targets, inventory, now)
        for cloud in state.target.clouds
        for action in _in_cloud(state, cloud)
    ]


def _in_cloud(state: VariantState, cloud: str) -> Iterator[Action]:
    current = state.current_in(cloud)
    # A rolled-back image may be all that tells which build must not be repeated.
    images = [image for image in state.images_in(cloud) if not image.rolled_back or image is current]
    return prune(state.target, cloud, images, current, state.now, replaced=False)


def prune(
    target: Target,
    cloud: str,
    images: Sequence[CloudImage],
    current: CloudImage | None,
    now: datetime,
    *,
    replaced: bool = True,
) -> Iterator[Action]:
    """Delete incomplete uploads, and the good images beyond `keep` that have been hidden for long enough.

    The `current` one counts first; where there is none, the one that the same plan promotes (unless not `replaced`).
    """
    spare = max(target.keep, 1) - (1 if current is not None or replaced else 0)
    beyond = [image for image in _by_value(images, current)[spare:] if _is_over(image, target, now)]
    broken = [image for image in images if image.state == "broken"]
    if reason := reasons.retention(target.keep, beyond, len(broken)):
        ids = tuple(image.id for image in (*beyond, *broken))
        yield Action(verb="prune", variant=target.variant, cloud=cloud, reason=reason, images=ids)


def _by_value(images: Iterable[CloudImage], current: CloudImage | None) -> list[CloudImage]:
    """What a rollback could use comes first: what was current once, before candidates and what was rolled back."""
    hidden = [image for image in images if image.state != "broken" and not image.deactivated and image is not current]
    return sorted(
        hidden, key=lambda image: (not image.rolled_back, image.state != "candidate", *image.age), reverse=True
    )


def _is_over(image: CloudImage, target: Target, now: datetime) -> bool:
    return image.hidden_since is not None and now - image.hidden_since >= target.prune_after
