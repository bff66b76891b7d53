"""Which compiled kernel modules are kept?

Those that DKMS compiled in a build, under a key over all that shapes them. The phases of elements/nvidia-driver work
out the key, in the guest, and leave what they did in a folder; it is taken into the cache when the build has gone well.
"""

from datetime import datetime
from pathlib import Path

from pipelines.cache import store
from pipelines.util import console

KIND = store.MODULES


def take(new: Path, root: Path, now: datetime) -> str:
    """Keep what a build has compiled, and count what it took; the keys that it took, by spaces, empty for none.

    `new` is the folder that the build's phases filled: `<key>/content` and `<key>/about`, and in `used` and `damaged`
    one key a line. `root` is the cache.
    """
    for key in _listed(new / "damaged"):
        store.drop(root, KIND, key)
    for entry in sorted(path for path in new.iterdir() if (path / "content").exists()):
        about = (entry / "about").read_text(encoding="utf-8").strip()
        try:
            store.put(root, KIND, entry.name, entry / "content", about=about, facts={}, now=now)
        except OSError as error:  # no reason to end a build that is done
            console.warn(f"{about}: the compiled modules are not kept: {error}")
    used = _listed(new / "used")
    for key in used:
        store.used(root, KIND, key)
    return " ".join(used)


def _listed(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split() if path.exists() else []
