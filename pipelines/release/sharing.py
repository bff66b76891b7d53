"""With whom is a shared image shared?"""

from pipelines.catalog.variant import Variant
from pipelines.glance.client import Cloud


def share(cloud: Cloud, variant: Variant, image_id: str) -> bool:
    """Give a shared image the members that its variant has, and no other; False when it had them."""
    if variant.glance.visibility != "shared":
        return False
    there, wanted = set(cloud.members(image_id)), set(variant.glance.members)
    for project in sorted(wanted - there):
        cloud.add_member(image_id, project)
    for project in sorted(there - wanted):
        cloud.remove_member(image_id, project)
    return there != wanted
