"""Which images in a cloud are more than are wanted there?

Pure, as plan.py is. Never what is shown: that is hidden before. What it is now, pruning.py looks at once more.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from pipelines.plan import reasons
from pipelines.plan.model import Action, CloudImage, Inventory, Target, shown


def prunable(targets: Iterable[Target], inventory: Inventory, now: datetime) -> list[Action]:
    """What may be deleted in the targets' clouds by somebody who does nothing else: what is shown stays so."""
    by_variant: dict[str, list[CloudImage]] = defaultdict(list)
    for image in inventory.images:
        by_variant[image.variant].append(image)
    actions: list[Action] = []
    for target in targets:
        for cloud in target.clouds:
            present = shown(by_variant[target.variant], cloud)
            images = [image for image in by_variant[target.variant] if image.cloud == cloud]
            # An image that somebody went back from may be all that says not to build it again.
            images = [image for image in images if not image.rejected or image is present]
            actions += prune(target, cloud, images, present, now, comes=False)
    return actions


def prune(
    target: Target,
    cloud: str,
    images: Sequence[CloudImage],
    present: CloudImage | None,
    now: datetime,
    *,
    comes: bool = True,
) -> Iterator[Action]:
    """Delete what a crash left behind, and the good images beyond `keep` that have been hidden long enough.

    The wanted one is the first that stays; where it is not present, it `comes` with the same plan, or not. What was
    once shown stays before what never was, and before what somebody went back from: it is what one goes back to. Never
    deleted is what is shown; it is hidden before.
    """
    broken = [image for image in images if image.state == "broken"]
    others = [image for image in images if image.state != "broken" and not image.deactivated and image is not present]
    others.sort(key=lambda image: (not image.rejected, image.state != "candidate", *image.age), reverse=True)
    first = max(target.keep, 1) - (1 if present is not None or comes else 0)
    beyond = [image for image in others[first:] if _is_over(image, target, now)]
    why = []
    if beyond:
        why.append(f"{reasons.shown(beyond)} beyond keep {target.keep}")
    if broken:
        why.append(f"{len(broken)} half uploaded")
    if why:
        ids = tuple(image.id for image in (*beyond, *broken))
        yield Action(verb="prune", variant=target.variant, cloud=cloud, reason=", ".join(why), images=ids)


def _is_over(image: CloudImage, target: Target, now: datetime) -> bool:
    return image.hidden_since is not None and now - image.hidden_since >= target.prune_after
