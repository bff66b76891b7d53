"""A small finished build to read: a real GPT, ESP and ext4 with what a GPU guest has at the places that verify reads.

`Guest` is a guest's tree, path → content; a test breaks it one way and then makes a build of it.
"""

import hashlib
import lzma
import os
import struct
import subprocess
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.artifacts.manifest import Artifact, Manifest
from pipelines.artifacts.store import Build, set_state
from pipelines.catalog.variant import Base, Disk, Driver, Variant
from pipelines.util.files import write_json

KERNEL = "6.12.57+deb13-amd64"
DRIVER = "550.163.01"
BUILD_ID = "20261122T120000Z-01234567"
MIB = 2**20
SIZE = 512 * MIB
ESP_START, ROOT_START, ROOT_SIZE = 2 * MIB, 6 * MIB, 20 * MIB
MODULES = f"/lib/modules/{KERNEL}"
BUILT = f"/var/lib/dkms/nvidia-current/{DRIVER}/{KERNEL}/x86_64/module"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
INITRAMFS = f"/boot/initrd.img-{KERNEL}"
GRUB_MENU = (
    f"set default=0\nmenuentry 'Debian' {{\n    linux /boot/vmlinuz-{KERNEL} root=LABEL=cloudimg-rootfs ro\n}}\n"
)
# Two lines as a private key's file has them; no key.
PRIVATE_KEY = b"-----BEGIN PRIVATE KEY-----\n" + b"MIIE" * 16 + b"\n-----END PRIVATE KEY-----\n"

VARIANT = Variant(
    name="debian-cuda",
    base=Base(distribution="debian", release="trixie"),
    disk=Disk(size="512MiB"),
    driver=Driver(source="archive", modules="proprietary"),
)


@dataclass(frozen=True)
class Link:
    """A symbolic link's target."""

    target: str


def kernel_module(*fields: str) -> bytes:
    """An ELF64 file with nothing but a .modinfo section."""
    names, info = b"\0.modinfo\0.shstrtab\0", "\0".join(fields).encode() + b"\0"
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 2)
    names_at = 64 + 3 * 64
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, names_at + len(names), len(info), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    return header + sections + names + info


def driver_module(*, kernel: str = KERNEL, version: str = DRIVER, licence: str = "NVIDIA") -> bytes:
    """An NVIDIA module, compressed as DKMS does; a proprietary one by its licence."""
    vermagic = f"vermagic={kernel} SMP preempt mod_unload modversions "
    return lzma.compress(kernel_module(f"license={licence}", f"version={version}", vermagic))


def cpio(*names: str) -> bytes:
    """A cpio archive of empty files."""
    out = b""
    for number, name in enumerate((*names, "TRAILER!!!")):
        header = f"070701{number:08x}{0o100644:08x}" + "00000000" * 9 + f"{len(name) + 1:08x}" + "00000000"
        entry = header.encode() + name.encode() + b"\0"
        out += entry + bytes(-len(entry) % 4)
    return out


def initramfs(*names: str) -> bytes:
    """An initramfs as initramfs-tools makes it: microcode uncompressed, padding, the rest compressed."""
    early = cpio("kernel", "kernel/x86", "kernel/x86/microcode/GenuineIntel.bin")
    packer = zlib.compressobj(wbits=31)
    return early + bytes(-len(early) % 512) + packer.compress(cpio(*names)) + packer.flush()


def package(name: str, version: str = f"{DRIVER}-2", status: str = "hold ok installed") -> str:
    """A paragraph of dpkg's status."""
    return f"Package: {name}\nStatus: {status}\nArchitecture: amd64\nVersion: {version}\n"


PACKAGES = {
    f"linux-image-{KERNEL}": package(f"linux-image-{KERNEL}", "6.12.57-1"),
    f"linux-headers-{KERNEL}": package(f"linux-headers-{KERNEL}", "6.12.57-1"),
    "libcuda1": package("libcuda1"),
    "libnvidia-ml1": package("libnvidia-ml1"),
    "nvidia-smi": package("nvidia-smi"),
    "bash": package("bash", "5.2-1", "install ok installed"),
}


def _tree() -> dict[str, bytes | str | Link]:
    identity = f'"variant": "debian-cuda", "build_id": "{BUILD_ID}", "kernel": "{KERNEL}"'
    modules = ("nvidia-current", "nvidia-current-uvm")
    tree: dict[str, bytes | str | Link] = {
        "/lib": Link("usr/lib"),
        "/etc/gpu-image.json": f'{{{identity}, "driver": "{DRIVER}", "modules": "proprietary", "cuda": ""}}',
        "/etc/machine-id": "",
        "/etc/shadow": "root:*:20000:0:99999:7:::\ndebian:!:20000:0:99999:7:::\n",
        "/etc/resolv.conf": Link("../run/systemd/resolve/stub-resolv.conf"),
        "/etc/modprobe.d/nvidia-blacklists-nouveau.conf": Link("/etc/nvidia/blacklist.conf"),
        "/etc/nvidia/blacklist.conf": "# nouveau stays away\nblacklist nouveau\n",
        "/etc/ssh/sshd_config": "",
        "/etc/apt/apt.conf.d/70debconf": 'DPkg::Pre-Install-Pkgs {"/usr/sbin/dpkg-preconfigure --apt || true";};\n',
        "/etc/cloud/cloud.cfg.d/90-gpu-image-apt.cfg": "apt:\n  sources_list: |\n    deb $MIRROR $RELEASE main\n",
        "/boot/grub/grub.cfg": GRUB_MENU,
        f"/boot/vmlinuz-{KERNEL}": b"kernel",
        INITRAMFS: initramfs("init", f"usr/lib/modules/{KERNEL}/kernel/drivers/virtio/virtio.ko"),
        f"/usr{MODULES}/modules.dep": "".join(f"updates/dkms/{name}.ko.xz:\n" for name in modules),
        f"/usr{MODULES}/kernel/drivers/video/nvidiafb.ko.xz": lzma.compress(kernel_module("vermagic=other")),
        f"/usr{MODULES}/build": Link(f"/usr/src/linux-headers-{KERNEL}"),
        f"/usr/src/linux-headers-{KERNEL}/Makefile": "include ../common/Makefile\n",
        f"/var/lib/dkms/nvidia-current/kernel-{KERNEL}-x86_64": Link(f"{DRIVER}/{KERNEL}/x86_64"),
        f"{BUILT}/Module.symvers": "",
        "/usr/bin/nvidia-smi": b"program",
        "/var/log/apt/history.log": "",
    }
    for name in modules:
        tree[f"/usr{MODULES}/updates/dkms/{name}.ko.xz"] = tree[f"{BUILT}/{name}.ko.xz"] = driver_module()
    for name in ("libcuda", "libnvidia-ml"):
        tree[f"{LIBRARIES}/{name}.so.{DRIVER}"] = b"library"
        tree[f"{LIBRARIES}/{name}.so.1"] = Link(f"{name}.so.{DRIVER}")
    return tree


@dataclass
class Guest:
    """A guest to be: its tree (empty folders end with "/"), its packages, its ESP, its identity for the manifest."""

    files: dict[str, bytes | str | Link] = field(default_factory=_tree)
    packages: dict[str, str] = field(default_factory=lambda: dict(PACKAGES))
    folders: tuple[str, ...] = ("tmp", "var/tmp", "var/lib/apt/lists/partial", "var/cache/apt/archives", "root", "home")
    esp: dict[str, str | bytes] = field(
        default_factory=lambda: {
            "EFI/BOOT/BOOTX64.EFI": "shim",
            "EFI/BOOT/grubx64.efi": "grub",
            "EFI/debian/grub.cfg": "configfile ($root)/boot/grub/grub.cfg\n",
        }
    )

    def build(self, root: Path) -> Build:
        """A complete build of this guest below `root`; its raw disk stays there as disk.raw."""
        folder = root / VARIANT.name / BUILD_ID
        folder.mkdir(parents=True)
        return finished(folder, self.whole_disk(root))

    def whole_disk(self, root: Path) -> Path:
        """A raw disk with this guest's root file system and ESP."""
        disk = self.disk(root)
        self._fill_esp(root, disk)
        return disk

    def disk(self, root: Path) -> Path:
        """A raw disk with this guest's root file system, and an ESP that is not filled."""
        disk = root / "disk.raw"
        partition(disk)
        self._fill_root(root, disk)
        return disk

    def _fill_root(self, root: Path, image: Path) -> None:
        tree = root / "tree"
        for name in self.folders:
            (tree / name).mkdir(parents=True, exist_ok=True)
        status = {"/var/lib/dpkg/status": "\n".join(self.packages.values())} if self.packages else {}
        files = {**self.files, **status}
        # /lib is a link in the guest, so its content is written below /usr.
        for name, content in files.items():
            path = tree / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Link):
                path.symlink_to(content.target)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        options = ["-t", "ext4", "-O", "^has_journal", "-E", f"offset={ROOT_START},root_owner=0:0", "-d", str(tree)]
        run("mke2fs", "-q", *options, str(image), f"{ROOT_SIZE // MIB}M")

    def _fill_esp(self, root: Path, image: Path) -> None:
        at = f"{image}@@{ESP_START}"
        run("mformat", "-i", at, "-T", str((ROOT_START - ESP_START) // 512), "-v", "ESP", "::")
        run("mmd", "-i", at, "::EFI", *(f"::{folder}" for folder in {str(Path(name).parent) for name in self.esp}))
        for name, content in self.esp.items():
            (root / "esp-file").write_bytes(content.encode() if isinstance(content, str) else content)
            run("mcopy", "-i", at, str(root / "esp-file"), f"::{name}")


def finished(folder: Path, disk: Path) -> Build:
    """Make a raw disk the artifact of a complete build."""
    image = folder / "image.qcow2"
    run("qemu-img", "convert", "-O", "qcow2", str(disk), str(image))
    record(folder, image)
    set_state(folder, "complete")
    return Build(folder=folder, variant=VARIANT.name, build_id=BUILD_ID, state="complete")


def record(folder: Path, image: Path) -> None:
    """Write the manifest of a build whose artifact is the qcow2 file `image`."""
    content = image.read_bytes()
    artifact = Artifact(
        path=image.name,
        format="qcow2",
        size=len(content),
        virtual_size=SIZE,
        sha256=hashlib.sha256(content).hexdigest(),
        sha512=hashlib.sha512(content).hexdigest(),
    )
    write_json(folder / "manifest.json", manifest(artifact))


def manifest(*artifacts: Artifact) -> Manifest:
    """What the good guest's build made."""
    return Manifest(
        variant=VARIANT.name,
        build_id=BUILD_ID,
        fingerprint="0123456789abcdef",
        created_at="2026-11-22T12:00:00Z",
        base={"distribution": "debian", "release": "trixie", "architecture": "amd64"},
        kernel=KERNEL,
        driver={"version": DRIVER, "modules": "proprietary"},
        cuda={},
        artifacts=artifacts,
        packages={
            f"{name}:amd64" if name.startswith("lib") else name: text.rsplit("Version: ")[1].strip()
            for name, text in PACKAGES.items()
        },
    )


def run(*argv: str) -> None:
    """Run one of the tools that make file systems."""
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK": "1"}
    subprocess.run(argv, check=True, capture_output=True, env=environment)


def partition(image: Path) -> None:
    with image.open("wb") as disk:
        disk.truncate(SIZE)
    script = image.with_suffix(".sfdisk")
    sectors = MIB // 512
    lines = (
        "label: gpt",
        f"start={sectors}, size={sectors}, type=21686148-6449-6E6F-744E-656564454649, name=bios-boot",
        f"start={ESP_START // 512}, size={(ROOT_START - ESP_START) // 512}, type=U, name=esp",
        f"start={ROOT_START // 512}, size={ROOT_SIZE // 512}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root",
    )
    script.write_text("\n".join(lines) + "\n")
    run("sh", "-c", 'sfdisk -q "$1" < "$2"', "sh", str(image), str(script))
    script.unlink()
