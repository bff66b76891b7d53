"""Checks that kernel, driver and user space fit together.

The kernel that boots = its headers = each NVIDIA module's vermagic = what DKMS has installed; the libraries and
nvidia-smi have the modules' version; nouveau stays away; no upgrade can change one without the others. Read out of the
finished image, independently of the checks in the build.
"""

import re
from collections.abc import Callable, Mapping

from pipelines.diskimage import kernel_files
from pipelines.diskimage.installed_packages import installed
from pipelines.util.architecture import ARCHITECTURES
from pipelines.verify.check import Guest, Outcome, outcome
from pipelines.verify.kernel import base, family, initramfs

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
        if _plain(path) == "nvidia" and (flavour := _flavour(fields)) != guest.manifest.driver.get("modules"):
            problems.append(f"{name} is {flavour}, the manifest says {guest.manifest.driver.get('modules')}")
        built_for = fields.get("vermagic", "").split(" ")[0]
        if built_for != release:
            problems.append(f"{name} is built for kernel {built_for or 'unknown'}, not for {release}")
        if fields.get("version", "") != version:
            problems.append(f"{name} is version {fields.get('version', 'unknown')}, the driver is {version}")
        if not re.search(rf"^{re.escape(name)}:", listed, re.MULTILINE):
            problems.append(f"modules.dep does not list {name}")
    return outcome(problems, f"{len(found)} modules of {version} for {release}")


def dkms(guest: Guest) -> Outcome:
    """DKMS has the driver as installed for the kernel, and what it built is what is in /lib/modules."""
    if is_precompiled(guest):
        return None, "the distribution compiled the modules"
    release, version = guest.manifest.kernel, _driver_version(guest)
    names = [name for name in guest.files.listdir("/var/lib/dkms") if name.startswith("nvidia")]
    if not names:
        return False, "DKMS has no NVIDIA module, so a new kernel in the guest would have no driver"
    deferred = "/etc/dkms/no-autoinstall"
    problems = [f"{deferred} prevents it from building for a new kernel"] if guest.files.lstat(deferred) else []
    loaded = {path.rsplit("/", 1)[1]: content for path, content in modules(guest).items()}
    problems += [problem for name in names for problem in _not_installed(guest, name, loaded)]
    return outcome(problems, f"{', '.join(names)} {version} is installed for {release}")


def headers(guest: Guest) -> Outcome:
    """The headers of the kernel that boots are installed, so that DKMS can build in the guest."""
    package = family(guest).headers.format(release=guest.manifest.kernel)
    problems = [] if package in installed(guest.files) else [f"{package} is not installed"]
    if guest.files.stat(f"/lib/modules/{guest.manifest.kernel}/build/Makefile") is None:
        problems.append(f"/lib/modules/{guest.manifest.kernel}/build does not lead to headers")
    return outcome(problems, f"{package} is installed")


def user_space(guest: Guest) -> Outcome:
    """The CUDA driver library, NVML and nvidia-smi have the modules' version, by package and by file name."""
    version = _driver_version(guest)
    found = {name: package for name, package in installed(guest.files).items() if _USER_SPACE.fullmatch(name)}
    problems = [f"{name} is {p.version}, the driver is {version}" for name, p in found.items() if p.upstream != version]
    if not found and not _from_runfile(guest):
        problems.append("no package of the driver's user space is installed")
    folder = family(guest).libraries.format(machine=_machine(guest))
    matches = [m for path in guest.files.walk(folder) if (m := _LIBRARY.fullmatch(path.rsplit("/", 1)[1]))]
    problems += [f"{m[0]} is not of version {version}" for m in matches if m[2] != version]
    for library in sorted({"libcuda", "libnvidia-ml"} - {m[1] for m in matches if m[2] == version}):
        problems.append(f"there is no {library}.so.{version} in {folder}")
    for path in ("/usr/bin/nvidia-smi", f"{folder}/libcuda.so.1", f"{folder}/libnvidia-ml.so.1"):
        if guest.files.stat(path) is None:
            problems.append(f"{path} is missing, or a broken link")
    return outcome(problems, f"{version}: {', '.join(sorted(found))}")


def nouveau(guest: Guest) -> Outcome:
    """nouveau cannot take the GPU before the driver: it is blacklisted, and not in the initramfs."""
    folders = ("/etc/modprobe.d", "/usr/lib/modprobe.d")
    paths = [f"{at}/{name}" for at in folders for name in guest.files.listdir(at) if name.endswith(".conf")]
    settings = b"\n".join(guest.files.contents(paths).values())
    problems = []
    if not re.search(rb"^\s*blacklist\s+nouveau\s*$", settings, re.MULTILINE):
        problems.append("nouveau is not blacklisted in /etc/modprobe.d")
    content = guest.files.read(initramfs(guest))
    if content is None:
        problems.append("there is no initramfs")
    elif any(re.search(r"(^|/)nouveau\.ko", name) for name in kernel_files.initramfs_names(content)):
        problems.append("nouveau is in the initramfs")
    return outcome(problems, "nouveau is blacklisted, and not in the initramfs")


def holds(guest: Guest) -> Outcome:
    """Kernel, headers, toolkit and all that has the driver's version are held, so that upgrades keep them together."""
    version = _driver_version(guest)
    fitting = {
        name: package.held
        for name, package in installed(guest.files).items()
        if _HELD.fullmatch(name) or ("nvidia" in name and package.upstream == version)
    }
    problems = [f"{name} is not held" for name, held in sorted(fitting.items()) if not held]
    if not fitting:
        problems.append("none of the packages to hold is installed")
    return outcome(problems, f"{len(fitting)} packages are held")


def is_precompiled(guest: Guest) -> bool:
    """Whether the modules are declared to be the distribution's own, so that DKMS has no part in them."""
    return guest.variant.driver is not None and guest.variant.driver.source == "precompiled"


def modules(guest: Guest) -> Mapping[str, bytes]:
    """NVIDIA's modules by path, without the kernel's own drivers for parts of such cards (kernel/drivers/)."""
    folder = f"/lib/modules/{guest.manifest.kernel}"
    found = guest.files.walk(folder)
    own = [path for path in found if not path.startswith(f"{folder}/kernel/drivers/")]
    return guest.files.contents(path for path in own if _MODULE.fullmatch(path.rsplit("/", 1)[1]))


CHECKS: tuple[tuple[str, Callable[[Guest], Outcome]], ...] = (
    ("driver-modules", driver_modules),
    ("dkms", dkms),
    ("headers", headers),
    ("user-space", user_space),
    ("nouveau", nouveau),
    ("holds", holds),
)


def _not_installed(guest: Guest, name: str, loaded: Mapping[str, bytes]) -> list[str]:
    """Why a package of DKMS is not the one that is installed; `loaded` are the modules in /lib/modules by file name."""
    release, version, machine = guest.manifest.kernel, _driver_version(guest), _machine(guest)
    folder = f"/var/lib/dkms/{name}/{version}/{release}/{machine}"
    problems = []
    if guest.files.target(f"/var/lib/dkms/{name}/kernel-{release}-{machine}") != f"{version}/{release}/{machine}":
        problems.append(f"{name} {version} is not marked as installed for kernel {release}")
    built = [f"{folder}/module/{file}" for file in guest.files.listdir(f"{folder}/module") if _MODULE.fullmatch(file)]
    if not built:
        problems.append(f"nothing is built in {folder}")
    for path, content in guest.files.contents(built).items():
        if loaded.get(path.rsplit("/", 1)[1]) != content:
            problems.append(f"{path} differs from the module in /lib/modules")
    return problems


def _from_runfile(guest: Guest) -> bool:
    """Whether NVIDIA's installer installed the driver: its files belong to no package."""
    return guest.variant.driver is not None and guest.variant.driver.source == "runfile"


def _flavour(fields: Mapping[str, str]) -> str:
    """Whether NVIDIA's main module is the open or the proprietary one, by its licence."""
    return "proprietary" if fields.get("license") == "NVIDIA" else "open"


def _undeclared(guest: Guest, version: str) -> list[str]:
    """How the driver differs from images.yaml: its version, its branch, the flavour of its modules."""
    driver, selection, flavour = guest.variant.driver, guest.variant.selection, guest.manifest.driver.get("modules")
    problems = []
    if driver is not None and version != (driver.version or version):
        problems.append(f"the driver is {version}, images.yaml says {driver.version}")
    if selection is not None and selection.branch is not None and not version.startswith(f"{selection.branch}."):
        problems.append(f"the driver is {version}, images.yaml asks for branch {selection.branch}")
    if selection is not None and flavour != selection.modules:
        problems.append(f"the modules are {flavour}, images.yaml asks for {selection.modules}")
    return problems


def _driver_version(guest: Guest) -> str:
    version = guest.manifest.driver.get("version")
    if not version:
        raise ValueError("the manifest names no driver version")
    return version


def _plain(path: str) -> str:
    """A module's name as NVIDIA gives it; Debian's packages put "current" or a branch into it."""
    stem = path.rsplit("/", 1)[1].split(".ko", 1)[0]
    return re.sub(r"^nvidia-(current|tesla(-\d+)?)(-open)?(?=-|$)", "nvidia", stem)


def _machine(guest: Guest) -> str:
    """The processor, as kernels and folders of libraries call it."""
    return ARCHITECTURES[base(guest).architecture]
