"""How is an image's data sent?

Once, or not at all. Works on the transport of glanceclient's client.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipelines.glance.errors import GlanceError, explained

CHUNK = 2**20
# Seconds to connect (and to pass on one piece), and for the answer: it comes once the store has all of it, which takes
# a busy one a while.
TIMEOUT = (120.0, 3600.0)

Chunks = Callable[[], Iterator[bytes]]


class Body:
    """An upload's data, as the file that glanceclient reads: `size` bytes, or an error that ends the upload."""

    def __init__(self, chunks: Iterator[bytes], size: int) -> None:
        self.size = self._left = size
        self._chunks = filter(None, chunks)  # an empty piece is no end

    def read(self, _: int) -> bytes:
        """The next piece, of whatever length; an empty one is the end."""
        piece = next(self._chunks, b"")
        self._left -= len(piece)
        if not piece and self._left:
            what = f"{self.size - self._left} of {self.size} bytes were there to upload"
            raise GlanceError(what, remedy="Look after the image's file, and run the same command again.", status=None)
        return piece


def put(client: Any, path: str, body: Body, headers: Mapping[str, str], *, cloud: str, doing: str) -> None:
    """Send a body once.

    Not by `images.upload`, which leaves it to the layers below to send again, after a refused token or a redirect.
    They keep the body as the generator that glanceclient made of it, by then spent: an image of 0 bytes is stored
    and called a success, and nothing that is given to `images.upload` can notice. Nor can it be given a timeout.
    """
    about = {"Content-Type": "application/octet-stream", "x-openstack-image-size": str(body.size), **headers}
    once = {"allow_reauth": False, "redirect": False}
    with explained(cloud, doing):
        response, _ = client.put(path, headers=about, data=body, timeout=TIMEOUT, **once)
    if response.status_code != 204:  # glanceclient takes a redirect for a success
        what = f"{cloud}: cannot {doing}: HTTP {response.status_code}"
        remedy = "Correct the image service's address in the cloud's catalog, or image_endpoint_override."
        raise GlanceError(what, remedy=remedy, status=response.status_code)
