"""Do kernel, driver and user space fit together?

The kernel that boots = its headers = each NVIDIA module's vermagic = what dkms says is installed; the libraries and
nvidia-smi have the modules' version; nouveau stays away; nothing of it is upgraded alone. Read out of the finished
image, independently of the checks in the build.
"""

import re
from collections.abc import Callable, Mapping

from pipelines.catalog.base import Base
from pipelines.catalog.distributions import DISTRIBUTIONS, Family
from pipelines.diskimage import kernel_files
from pipelines.diskimage.installed_packages import installed
from pipelines.util.architecture import ARCHITECTURES
from pipelines.verify.check import Guest, Outcome, outcome

_MODULE = re.compile(r"nvidia[\w-]*\.ko(\.xz|\.zst|\.gz)?")
_LIBRARY = re.compile(r"(libcuda|libnvidia-ml)\.so\.(\d+(?:\.\d+)+)")
_USER_SPACE = re.compile(
    r"libcuda1|libnvidia-ml1?|nvidia-smi|libnvidia-compute(-\d+.*)?|nvidia-utils(-\d+.*)?|nvidia-driver-cuda(-libs)?"
    r"|nvidia-linux-grid(-\d+)?"  # the guest driver for vGPU, in one package
)
_HELD = re.compile(
    r"linux-(image|headers|modules-nvidia)-.*|kernel(-core|-modules.*|-devel.*)?|nvidia-cuda-toolkit|.*nvidia.*dkms.*|"
    r"cuda-toolkit-\d+-\d+|libcudnn9-.*|libnccl.*|nvidia-container-toolkit.*|libnvidia-container.*|"
    + _USER_SPACE.pattern
)


def kernel(guest: Guest) -> Outcome:
    """Exactly the declared kernel boots: GRUB's default entry, its image, initramfs and modules; no other is there."""
    release, files = guest.manifest.kernel, guest.files
    problems = _boots(guest)
    for path in (f"/boot/vmlinuz-{release}", _initramfs(guest), f"/lib/modules/{release}/modules.dep"):
        entry = files.stat(path)
        if entry is None or not entry.size:
            problems.append(f"{path} is missing or empty")
    others = [name for name in files.listdir("/lib/modules") if name != release]
    others += [name for name in files.listdir("/boot") if name.startswith("vmlinuz-") and name != f"vmlinuz-{release}"]
    problems += [f"{name} is another kernel's" for name in others]
    return outcome(problems, f"{release} boots, and is the only kernel")


def driver_modules(guest: Guest) -> Outcome:
    """Each NVIDIA module is built for the kernel that boots, has the driver's version, and modprobe finds it."""
    release, version = guest.manifest.kernel, _driver_version(guest)
    folder = f"/lib/modules/{release}"
    found = modules(guest)
    listed = guest.files.text(f"{folder}/modules.dep") or ""
    wanted = {"nvidia", "nvidia-uvm"} - {_plain(path) for path in found}
    problems = [f"there is no module {name} in {folder}" for name in sorted(wanted)]
    problems += _undeclared(guest, version)
    for path, content in found.items():
        name = path.removeprefix(f"{folder}/")
        fields = kernel_files.module_fields(content)
        if _plain(path) == "nvidia" and (said := _flavour(fields)) != guest.manifest.driver.get("modules"):
            problems.append(f"{name} is {said}, the manifest says {guest.manifest.driver.get('modules')}")
        built_for = fields.get("vermagic", "").split(" ")[0]
        if built_for != release:
            problems.append(f"{name} is built for kernel {built_for or 'unknown'}, not for {release}")
        if fields.get("version", "") != version:
            problems.append(f"{name} is version {fields.get('version', 'unknown')}, the driver is {version}")
        if not re.search(rf"^{re.escape(name)}:", listed, re.MULTILINE):
            problems.append(f"modules.dep does not list {name}")
    return outcome(problems, f"{len(found)} modules of {version} for {release}")


def dkms(guest: Guest) -> Outcome:
    """DKMS holds the driver as installed for the kernel: what it built is what lies in /lib/modules."""
    if is_precompiled(guest):
        return None, "the distribution compiled the modules"
    release, version = guest.manifest.kernel, _driver_version(guest)
    names = [name for name in guest.files.listdir("/var/lib/dkms") if name.startswith("nvidia")]
    if not names:
        return False, "DKMS knows no NVIDIA module, so a new kernel in the guest would have no driver"
    machine = _machine(guest)
    deferred = "/etc/dkms/no-autoinstall"
    problems = [f"{deferred} keeps it from building for a new kernel"] if guest.files.lstat(deferred) else []
    present = {path.rsplit("/", 1)[1]: content for path, content in modules(guest).items()}
    for name in names:
        built = f"/var/lib/dkms/{name}/{version}/{release}/{machine}"
        if guest.files.target(f"/var/lib/dkms/{name}/kernel-{release}-{machine}") != f"{version}/{release}/{machine}":
            problems.append(f"{name} {version} is not marked as installed for kernel {release}")
        there = guest.files.listdir(f"{built}/module")
        results = [f"{built}/module/{module}" for module in there if _MODULE.fullmatch(module)]
        if not results:
            problems.append(f"nothing is built in {built}")
        for path, content in guest.files.contents(results).items():
            if present.get(path.rsplit("/", 1)[1]) != content:
                problems.append(f"{path} is not what is installed in /lib/modules")
    return outcome(problems, f"{', '.join(names)} {version} is installed for {release}")


def headers(guest: Guest) -> Outcome:
    """The headers of the kernel that boots are there, so that DKMS can build in the guest."""
    package = _family(guest).headers.format(release=guest.manifest.kernel)
    problems = [] if package in installed(guest.files) else [f"{package} is not installed"]
    if guest.files.stat(f"/lib/modules/{guest.manifest.kernel}/build/Makefile") is None:
        problems.append(f"/lib/modules/{guest.manifest.kernel}/build leads to no headers")
    return outcome(problems, f"{package} is installed")


def user_space(guest: Guest) -> Outcome:
    """The CUDA driver library, NVML and nvidia-smi are of the modules' version, by package and by file name."""
    version = _driver_version(guest)
    found = {name: package for name, package in installed(guest.files).items() if _USER_SPACE.fullmatch(name)}
    problems = [f"{name} is {p.version}, the driver is {version}" for name, p in found.items() if p.upstream != version]
    if not found and not _from_runfile(guest):
        problems.append("no package of the driver's user space is installed")
    folder = _family(guest).libraries.format(machine=_machine(guest))
    matches = [m for path in guest.files.walk(folder) if (m := _LIBRARY.fullmatch(path.rsplit("/", 1)[1]))]
    problems += [f"{m[0]} is not of version {version}" for m in matches if m[2] != version]
    for library in sorted({"libcuda", "libnvidia-ml"} - {m[1] for m in matches if m[2] == version}):
        problems.append(f"there is no {library}.so.{version} in {folder}")
    for path in ("/usr/bin/nvidia-smi", f"{folder}/libcuda.so.1", f"{folder}/libnvidia-ml.so.1"):
        if guest.files.stat(path) is None:
            problems.append(f"{path} is missing, or leads nowhere")
    return outcome(problems, f"{version}: {', '.join(sorted(found))}")


def nouveau(guest: Guest) -> Outcome:
    """nouveau cannot take the GPU before the driver: it is blacklisted, and not in the initramfs."""
    folders = ("/etc/modprobe.d", "/usr/lib/modprobe.d")
    paths = [f"{at}/{name}" for at in folders for name in guest.files.listdir(at) if name.endswith(".conf")]
    settings = b"\n".join(guest.files.contents(paths).values())
    problems = []
    if not re.search(rb"^\s*blacklist\s+nouveau\s*$", settings, re.MULTILINE):
        problems.append("nouveau is not blacklisted in /etc/modprobe.d")
    initramfs = guest.files.read(_initramfs(guest))
    if initramfs is None:
        problems.append("there is no initramfs to look into")
    elif any(re.search(r"(^|/)nouveau\.ko", name) for name in kernel_files.initramfs_names(initramfs)):
        problems.append("nouveau is in the initramfs")
    return outcome(problems, "nouveau is blacklisted, and not in the initramfs")


def holds(guest: Guest) -> Outcome:
    """Kernel, headers, toolkit and all that has the driver's version are held, so that no upgrade parts them."""
    version = _driver_version(guest)
    fitting = {
        name: package.held
        for name, package in installed(guest.files).items()
        if _HELD.fullmatch(name) or ("nvidia" in name and package.upstream == version)
    }
    problems = [f"{name} is not held" for name, held in sorted(fitting.items()) if not held]
    if not fitting:
        problems.append("none of the packages is installed")
    return outcome(problems, f"{len(fitting)} packages are held")


def is_precompiled(guest: Guest) -> bool:
    """Whether the modules are declared to be the distribution's own, so that DKMS has no part in them."""
    return guest.variant.driver is not None and guest.variant.driver.source == "precompiled"


CHECKS: tuple[tuple[str, Callable[[Guest], Outcome]], ...] = (("kernel", kernel),)
DRIVER_CHECKS: tuple[tuple[str, Callable[[Guest], Outcome]], ...] = (
    ("driver-modules", driver_modules),
    ("dkms", dkms),
    ("headers", headers),
    ("user-space", user_space),
    ("nouveau", nouveau),
    ("holds", holds),
)


def _from_runfile(guest: Guest) -> bool:
    """Whether NVIDIA's installer brought the driver: its files are of no package."""
    return guest.variant.driver is not None and guest.variant.driver.source == "runfile"


def _flavour(fields: Mapping[str, str]) -> str:
    """Whether NVIDIA's main module is the open or the proprietary one: its licence says it."""
    return "proprietary" if fields.get("license") == "NVIDIA" else "open"


def _undeclared(guest: Guest, version: str) -> list[str]:
    """What of the driver is not as images.yaml says: its version, its branch, the flavour of its modules."""
    driver, selection, made = guest.variant.driver, guest.variant.selection, guest.manifest.driver.get("modules")
    problems = []
    if driver is not None and version != (driver.version or version):
        problems.append(f"the driver is {version}, images.yaml says {driver.version}")
    if selection is not None and selection.branch is not None and not version.startswith(f"{selection.branch}."):
        problems.append(f"the driver is {version}, images.yaml asks for branch {selection.branch}")
    if selection is not None and made != selection.modules:
        problems.append(f"the modules are {made}, images.yaml asks for {selection.modules}")
    return problems


def _driver_version(guest: Guest) -> str:
    version = guest.manifest.driver.get("version")
    if not version:
        raise ValueError("the manifest names no driver version")
    return version


def modules(guest: Guest) -> Mapping[str, bytes]:
    """NVIDIA's modules by path; the kernel's own drivers for parts of such cards (kernel/drivers/) are others."""
    folder = f"/lib/modules/{guest.manifest.kernel}"
    found = guest.files.walk(folder)
    own = [path for path in found if not path.startswith(f"{folder}/kernel/drivers/")]
    return guest.files.contents(path for path in own if _MODULE.fullmatch(path.rsplit("/", 1)[1]))


def _plain(path: str) -> str:
    """A module's name as NVIDIA gives it; Debian's packages put "current" or a branch into it."""
    stem = path.rsplit("/", 1)[1].split(".ko", 1)[0]
    return re.sub(r"^nvidia-(current|tesla(-\d+)?)(-open)?(?=-|$)", "nvidia", stem)


def _boots(guest: Guest) -> list[str]:
    """What is wrong with GRUB's menu, and with the entries that it reads from files where the distribution has such."""
    release, where = guest.manifest.kernel, _family(guest).menu
    menu = guest.files.text(where) or ""
    boots = re.findall(r"^\s*linux\S*\s+(\S+)", menu, re.MULTILINE)
    default = re.search(r"^\s*set default=\"?([^\"\n]*)", menu, re.MULTILINE)
    problems = []
    if not boots:
        problems.append(f"{where} boots nothing")
    elif boots[0] != f"/boot/vmlinuz-{release}":
        problems.append(f"GRUB's first entry boots {boots[0]}, the manifest says {release}")
    if default is not None and default[1].strip() != "0":
        problems.append(f"GRUB's default entry is {default[1]!r}, not the first")
    entries = [f"/boot/loader/entries/{name}" for name in guest.files.listdir("/boot/loader/entries")]
    for path, content in guest.files.contents(entries).items():
        image = re.search(rb"^linux\s+(\S+)", content, re.MULTILINE)
        if image is None or image[1].decode() != f"/boot/vmlinuz-{release}":
            problems.append(f"{path} boots another kernel than {release}")
    if re.search("^saved_entry=.", guest.files.text("/boot/grub2/grubenv") or "", re.MULTILINE):
        problems.append("/boot/grub2/grubenv names another default entry")
    return problems


def _initramfs(guest: Guest) -> str:
    return _family(guest).initramfs.format(release=guest.manifest.kernel)


def _machine(guest: Guest) -> str:
    """The processor, as kernels and folders of libraries call it."""
    return ARCHITECTURES[_base(guest).architecture]


def _family(guest: Guest) -> Family:
    return DISTRIBUTIONS[_base(guest).distribution].family


def _base(guest: Guest) -> Base:
    if guest.variant.base is None:
        raise ValueError("the variant has no base, so its distribution and architecture are unknown")
    return guest.variant.base
