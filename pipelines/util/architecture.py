"""Names of processor architectures, as each tool has them."""

from collections.abc import Mapping

ARCHITECTURES: Mapping[str, str] = {"amd64": "x86_64", "arm64": "aarch64"}  # ours → Glance's, Nova's and the kernel's
