"""How does a cloud want its images delivered?"""

from dataclasses import dataclass
from typing import Literal

ImportMethod = Literal["auto", "put", "glance-direct", "web-download"]
DiskFormat = Literal["qcow2", "raw"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What `clouds` in images.yaml says about the data of every image; what it leaves open, transfer.py decides.

    `stores` are Glance's stores (none: its default one; None: all that can be written). `web_download_url` is where
    the builds' folder is served to that cloud, empty if nowhere.
    """

    disk_format: DiskFormat = "qcow2"
    import_method: ImportMethod = "auto"
    stores: tuple[str, ...] | None = ()
    web_download_url: str = ""
