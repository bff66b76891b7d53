"""Errors of Glance and its client library, with what the operator can do about them."""

import contextlib

from pipelines.keystone import errors
from pipelines.keystone.errors import ServiceError

_REMEDIES = {
    **errors.REMEDIES,
    400: "Glance does not accept this; compare with its API reference.",
    403: "Ask the cloud's administrators for that right. By Glance's default policy only administrators can make an "
    "image public, and only its own project can change it.",
    413: "The project's quota, or Glance's limit for one image, is too small: delete what is not needed "
    "(`./inv status` shows the retired images), or ask for a larger one.",
    415: "Glance inspected the image and refused its format; run `./inv verify` on the build.",
    503: "Glance is busy or in maintenance; run the same command again later.",
}
# glanceclient reports "Error finding address" for each of these; the error of keystoneauth1 behind it says why.
_HIDES_ANOTHER = ("CommunicationError", "InvalidEndpoint")
_READERS = errors.READERS | {"glanceclient", "warlock"}


def explained(cloud: str, doing: str) -> contextlib.AbstractContextManager[None]:
    """Turn every exception of glanceclient, and of what is below it, into a ServiceError."""
    return errors.explained(cloud, doing, _explain)


def _explain(error: Exception, what: str) -> ServiceError | None:
    """None for what is not the cloud's fault: our own errors and our own bugs."""
    hides = type(error).__name__ in _HIDES_ANOTHER and "glanceclient" in errors.homes(error)
    if hides and isinstance(error.__context__, Exception):
        error = error.__context__
    home = errors.homes(error)
    if "glanceclient" in home or ("keystoneauth1" in home and errors.http_status(error)):
        return errors.refused(error, what, _REMEDIES)
    if error.__context__ is not None and "warlock" in errors.homes(error.__context__):  # Glance's schema refuses values
        return ServiceError(f"{what}: {errors.one_line(error)}", remedy=_REMEDIES[400], status=None)
    return errors.explain(error, what, service="Glance", readers=_READERS)
