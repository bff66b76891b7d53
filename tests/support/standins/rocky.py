"""Packages of Rocky Linux, EPEL and NVIDIA's repository for them, for a test.

What rocky_tree.py's tree has already is in packages of Rocky's names without content. The kernel's headers are those of
Debian, under a Rocky kernel's name, so that DKMS compiles for it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipelines.catalog.distributions import DISTRIBUTIONS
from tests.support.standins import driver, rpm
from tests.support.standins.keys import Key
from tests.support.standins.rpm import Rpm

# What elements ask for by Rocky's names, and the tree has already.
_THERE = (
    *("gcc", "gcc-c++", "make", "perl-interpreter", "glibc-devel", "elfutils-libelf-devel", "kmod", "xz", "zstd"),
    *("pciutils", "policycoreutils", "python3-dnf-plugin-versionlock", "dnf-plugins-core", "dracut-config-generic"),
    *("cloud-init", "openssh-server", "NetworkManager", "chrony", "dbus", "sudo", "cloud-utils-growpart", "util-linux"),
    *("e2fsprogs", "xfsprogs", "grub2-pc-modules", "ca-certificates", "rsync"),
)
_CONTEXTS = "/etc/selinux/targeted/contexts/files/file_contexts"
_LABELS = ("/.*\tsystem_u:object_r:default_t:s0", "/etc/shadow\t--\tsystem_u:object_r:shadow_t:s0")
_KERNELS = {"9": "5.14.0-570.12.1.el9_6", "10": "6.12.0-55.9.1.el10_0"}
_EPOCH = 3  # of NVIDIA's packages
_LIBRARIES = "/usr/lib64"


def kernel(release: str) -> str:
    """The kernel release of a Rocky release."""
    return f"{_KERNELS[release]}.x86_64"


def os_release(release: str, distribution: str = "rocky") -> str:
    """/etc/os-release, as far as it matters."""
    name = DISTRIBUTIONS[distribution].label
    return (
        f'NAME="{name}"\nVERSION="{release}.6"\nID="{distribution}"\nID_LIKE="rhel centos fedora"\n'
        f'VERSION_ID="{release}.6"\nPLATFORM_ID="platform:el{release}"\nPRETTY_NAME="{name} {release}.6"\n'
    )


def release_package(release: str, mirror: str, key: Key, distribution: str = "rocky") -> Rpm:
    """What makes a tree Rocky's or AlmaLinux's: its name, its repositories and their key."""
    key_file = f"/etc/pki/rpm-gpg/RPM-GPG-KEY-{DISTRIBUTIONS[distribution].label.removesuffix(' Linux')}-{release}"
    repository = (
        f"[baseos]\nname=BaseOS\nbaseurl={mirror}/$releasever/BaseOS/$basearch/os/\nenabled=1\ngpgcheck=1\n"
        f"gpgkey=file://{key_file}\n\n"
        f"[crb]\nname=CRB\nbaseurl={mirror}/$releasever/CRB/$basearch/os/\nenabled=0\ngpgcheck=1\n"
    )
    return Rpm(
        name=f"{distribution}-release",
        version=f"{release}.6",
        architecture="noarch",
        fields={"Provides": f"system-release /bin/sh system-release(releasever) = {release}"},
        files={
            "/usr/lib/os-release": os_release(release, distribution),
            f"/etc/yum.repos.d/{distribution}.repo": repository,
            key_file: key.armored,
            "/etc/ld.so.conf.d/lib64.conf": f"{_LIBRARIES}\n",
        },
    )


def base_packages(distribution: str = "rocky") -> tuple[Rpm, ...]:
    """BaseOS and AppStream, but for the kernel."""
    there = (Rpm(name=name, architecture="noarch") for name in _THERE)
    efi = f"/boot/efi/EFI/{DISTRIBUTIONS[distribution].efi_vendor}"
    return (
        *there,
        Rpm(name="dracut"),
        Rpm(name="selinux-policy-targeted", files={_CONTEXTS: "".join(f"{line}\n" for line in _LABELS)}),
        Rpm(name="grub2-tools", links={f"/usr/bin/grub2-{each}": f"grub-{each}" for each in ("mkimage", "editenv")}),
        Rpm(name="grub2-efi-x64", files={f"{efi}/grubx64.efi": "grub"}),
        Rpm(name="shim-x64", files={f"{efi}/shimx64.efi": "shim", f"{efi}/mmx64.efi": "mok"}),
    )


def kernel_packages(root: Path, version: str) -> tuple[Rpm, ...]:
    """A kernel as Rocky cuts it; its headers are those in `root`, under this kernel's name."""
    number, _, release = version.partition("-")
    name = f"{version}.x86_64"
    common = {"version": number, "release": release}
    modules, headers = f"/lib/modules/{name}", f"/usr/src/kernels/{name}"
    files, links = _headers(root, headers, name)
    core = {
        f"{modules}/vmlinuz": "kernel",
        f"{modules}/config": files[f"{headers}/.config"],
        f"{modules}/modules.builtin": "",
        f"{modules}/modules.order": "",
    }
    exact = f"= {version}"
    return (
        Rpm(name="kernel", **common, fields={"Requires": f"kernel-core {exact} kernel-modules {exact}"}),
        Rpm(name="kernel-core", **common, files=core, links={f"{modules}/build": headers}),
        Rpm(name="kernel-modules", **common, fields={"Requires": f"kernel-core {exact}"}),
        Rpm(name="kernel-devel", **common, files=files, links=links),
        Rpm(
            name="kernel-devel-matched",
            **common,
            fields={"Requires": f"kernel-core {exact} kernel-devel {exact}"},
        ),
    )


def epel_packages() -> tuple[Rpm, ...]:
    """EPEL: the tree has dkms already."""
    return (Rpm(name="dkms", architecture="noarch"),)


def epel_release(repository: str, key: Key) -> Rpm:
    """The package that names EPEL, in Rocky's extras."""
    place = "/etc/pki/rpm-gpg/RPM-GPG-KEY-EPEL"
    text = f"[epel]\nname=EPEL\nbaseurl={repository}\nenabled=1\ngpgcheck=1\ngpgkey=file://{place}\n"
    files: dict[str, str | bytes] = {"/etc/yum.repos.d/epel.repo": text, place: key.armored}
    return Rpm(name="epel-release", architecture="noarch", files=files)


def driver_packages(version: str = driver.VERSION, *, release: str = "9", modules_version: str = "") -> tuple[Rpm, ...]:
    """NVIDIA's driver as its repository cuts it: compute only, open modules and proprietary ones."""
    common = {"version": version, "release": f"1.el{release}", "epoch": _EPOCH}
    exact = f"= {_EPOCH}:{version}"
    return (
        *(_modules(name, kind, dkms, modules_version or version, common) for name, kind, dkms in _MODULES),
        Rpm(
            name="nvidia-driver-cuda",
            **common,
            fields={"Requires": f"nvidia-driver-cuda-libs {exact} nvidia-kmod {exact} nvidia-persistenced {exact}"},
            files={"/usr/bin/nvidia-smi": driver.text("nvidia-smi")},
        ),
        _library("nvidia-driver-cuda-libs", "libcuda", common, Requires=f"libnvidia-ml {exact}"),
        _library("libnvidia-ml", "libnvidia-ml", common),
        Rpm(name="nvidia-modprobe", **common, files={"/usr/bin/nvidia-modprobe": driver.text("nvidia-modprobe")}),
        Rpm(
            name="nvidia-persistenced",
            **common,
            files={
                "/usr/bin/nvidia-persistenced": driver.text("nvidia-persistenced"),
                "/usr/lib/systemd/system/nvidia-persistenced.service": driver.text("nvidia-persistenced.service"),
            },
        ),
    )


_MODULES = (
    ("kmod-nvidia-open-dkms", "open", "nvidia-open"),
    ("kmod-nvidia-latest-dkms", "proprietary", "nvidia"),
)


def _modules(name: str, kind: str, dkms: str, version: str, common: dict[str, object]) -> Rpm:
    """The modules' source, with NVIDIA's own scripts: they try the running kernel, and hide that it failed."""
    other = next(each for each, *_ in _MODULES if each != name)
    add = f"dkms add -m {dkms} -v {version} -q || :\n"
    build = f"dkms build -m {dkms} -v {version} -q || :\ndkms install -m {dkms} -v {version} -q --force || :\n"
    return Rpm(
        name=name,
        **common,  # type: ignore[arg-type]
        fields={"Requires": "dkms", "Provides": f"nvidia-kmod = {_EPOCH}:{common['version']}", "Conflicts": other},
        files=driver.source_files(version=version, modules=kind, dkms=dkms),
        scripts={"post": add + build, "preun": f"dkms remove -m {dkms} -v {version} -q --all || :\n"},
    )


def _library(name: str, library: str, common: dict[str, object], **fields: str) -> Rpm:
    files, _ = driver.library(library, str(common["version"]))
    (content,) = files.values()
    target = f"{library}.so.{common['version']}"
    return Rpm(
        name=name,
        **common,  # type: ignore[arg-type]
        fields=fields,
        files={f"{_LIBRARIES}/{target}": content},
        links={f"{_LIBRARIES}/{library}.so.1": target},
        scripts={"post": "/sbin/ldconfig"},
    )


def streams(packages: Sequence[Rpm]) -> str:
    """modules.yaml of NVIDIA's repository for Rocky 9: streams that follow the newest driver, and a branch's own."""
    branch = packages[0].version.partition(".")[0]
    others = [package for package in packages if not package.name.startswith("kmod-")]
    pairs = {"open": "kmod-nvidia-open-dkms", "proprietary": "kmod-nvidia-latest-dkms"}
    found = ""
    for stream, kind in (
        ("open-dkms", "open"),
        (f"{branch}-open", "open"),
        ("latest-dkms", "proprietary"),
        (f"{branch}-dkms", "proprietary"),
    ):
        found += rpm.module("nvidia-driver", stream, [*others, *(p for p in packages if p.name == pairs[kind])])
    return found


def mirror(folder: Path, release: str, packages: Iterable[Path], key: Key, *, extras: Iterable[Path] = ()) -> None:
    """A mirror laid out as Rocky's own: everything in BaseOS, nothing in AppStream and CRB."""
    contents: dict[str, Iterable[Path]] = {"BaseOS": packages, "AppStream": (), "CRB": (), "extras": extras}
    for name, files in contents.items():
        rpm.publish(folder / release / name / "x86_64/os", files, key)


def _headers(root: Path, place: str, kernel: str) -> tuple[dict[str, str | bytes], dict[str, str]]:
    """Debian's headers as another kernel's: what says the kernel's name is a copy, the rest is linked."""
    (source,) = (path for path in (root / "usr/src").glob("linux-headers-*-amd64") if "cloud" not in path.name)
    real = f"/usr/src/{source.name}"
    name = source.name.removeprefix("linux-headers-")
    changed = (
        ".config",
        ".kernelvariables",
        "Makefile",
        "include/generated/utsrelease.h",
        "include/config/kernel.release",
    )
    files: dict[str, str | bytes] = {}
    for path in changed:
        if (source / path).exists():
            files[f"{place}/{path}"] = (source / path).read_text().replace(name, kernel)
    generated = (path for part in ("generated", "config") for path in (source / "include" / part).rglob("*"))
    for path in (path for path in generated if path.is_file()):
        files.setdefault(f"{place}/{path.relative_to(source)}", path.read_bytes())
    links = {f"{place}/{name}": f"{real}/{name}" for name in ("arch", "scripts", "tools", "Module.symvers")}
    return files, links
