"""Cache of compiled kernel modules: what DKMS compiled in a build, under a key over all that shapes it.

The phases of elements/nvidia-driver compute the key, in the guest, and leave what they compiled and used in a folder.
It goes into the cache when the build has succeeded.
"""

from datetime import datetime
from pathlib import Path

from pipelines.cache import store
from pipelines.util import console

KIND = store.MODULES


def take(new: Path, root: Path, now: datetime) -> str:
    """Move what a build compiled into the cache `root`, and count what it used; the keys that it used, by spaces.

    `new` is the folder that the build's phases filled: `<key>/content` and `<key>/about`; `used` and `damaged` with one
    key a line.
    """
    for key in _listed(new / "damaged"):
        store.drop(root, KIND, key)
    for entry in sorted(path for path in new.iterdir() if (path / "content").exists()):
        about = (entry / "about").read_text(encoding="utf-8").strip()
        try:
            store.put(root, KIND, entry.name, entry / "content", about=about, facts={}, now=now)
        except OSError as error:  # the build is good without
            console.warn(f"{about}: the compiled modules are not cached: {error}")
    used = _listed(new / "used")
    for key in used:
        store.used(root, KIND, key)
    return " ".join(used)


def _listed(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split() if path.exists() else []
