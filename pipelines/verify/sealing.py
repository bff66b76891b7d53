"""Checks for traces of the build in the guest: secrets, what two servers must not share, and the build host's settings.

Each function looks for one kind of trace in the finished image.
"""

import configparser
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from pipelines.catalog.distributions import DISTRIBUTIONS
from pipelines.diskimage.filesystem import FileSystem
from pipelines.verify.check import Guest, Outcome, outcome
from pipelines.verify.private_keys import private_keys

_PROXY = re.compile(r"^[^#\n]*\b((?:https?|ftp|all|no)_proxy)\b\s*=", re.IGNORECASE | re.MULTILINE)
_DNF_PROXY = re.compile(r"^\s*proxy\s*=\s*[^\s_]", re.MULTILINE)
_APT_PROXY = re.compile(r"^[^#/\n]*\bAcquire\b[^;]*\bProxy\b", re.IGNORECASE | re.MULTILINE)
# Whose package repositories any guest may know besides its distribution's and its mirror.
_VENDORS = ("developer.download.nvidia.com",)
_SOURCE = re.compile(r"^\s*(?:deb(?:-src)?\s+(?:\[[^\]]*\]\s*)?|URIs:\s*|-?\s*uri:\s*)(\S.*)$", re.MULTILINE)


def host_keys(guest: Guest) -> Outcome:
    """Every server makes its own SSH host keys."""
    found = [name for name in guest.files.listdir("/etc/ssh") if name.startswith("ssh_host_")]
    return outcome([f"/etc/ssh/{name} would be the same on every server" for name in found], "none in /etc/ssh")


def machine_id(guest: Guest) -> Outcome:
    """Every server gets its own machine ID at first boot."""
    own = (guest.files.text("/etc/machine-id") or "").strip()
    problems = []
    if own not in {"", "uninitialized"}:
        problems.append(f"/etc/machine-id is {own}, the same on every server")
    copy = guest.files.lstat("/var/lib/dbus/machine-id")
    if copy is not None and not copy.is_link:
        problems.append("/var/lib/dbus/machine-id is a copy, not a link")
    return outcome(problems, "unset")


def logins(guest: Guest) -> Outcome:
    """Nobody can log in before cloud-init sets up who may: no password, no authorized key."""
    shadow = guest.files.text("/etc/shadow") or ""
    fields = [line.split(":") for line in shadow.splitlines() if ":" in line]
    problems = [f"{user} has a password" for user, secret, *_ in fields if secret and secret[0] not in "*!"]
    problems += [f"{user} can log in without a password" for user, secret, *_ in fields if not secret]
    homes = ["/root", *(f"/home/{name}" for name in guest.files.listdir("/home"))]
    keys = guest.files.contents(f"{home}/.ssh/authorized_keys" for home in homes)
    problems += [f"{path} has an authorized key" for path, content in keys.items() if content.strip()]
    return outcome(problems, "no passwords, no authorized keys")


def package_sources(guest: Guest) -> Outcome:
    """The guest's package sources are not the builder's: its distribution's own, NVIDIA's, or `base.guest_mirror`.

    apt's are none at all, since cloud-init writes them at first boot.
    """
    base = guest.variant.base
    mirror = base.guest_mirror if base else None
    own = _VENDORS + (DISTRIBUTIONS[base.distribution].repositories if base and mirror is None else ())
    found = [*_apt_sources(guest.files), *_dnf_sources(guest.files)]
    at_mirror = [uri for _, uri in found if mirror is not None and uri.startswith(mirror.rstrip("/"))]
    foreign = [(path, uri) for path, uri in found if uri not in at_mirror and not _is_at(uri, own)]
    wrong = [f"{path} has {uri}" for path, uri in foreign]
    if mirror is not None and not at_mirror:
        wrong.append(f"there is no package source, although base.guest_mirror is {mirror}")
    hosts = sorted({urlsplit(uri).hostname or uri for _, uri in found})
    return outcome(wrong, f"at {', '.join(hosts)}" if hosts else "none; cloud-init writes them at first boot")


def proxy(guest: Guest) -> Outcome:
    """No proxy of the builder is configured."""
    apt = ["/etc/apt/apt.conf", *_within(guest.files, "/etc/apt/apt.conf.d")]
    shells = ["/etc/environment", "/etc/profile", "/etc/bash.bashrc", "/etc/wgetrc", "/etc/pip.conf", "/root/.bashrc"]
    shells += [*_within(guest.files, "/etc/profile.d"), *_within(guest.files, "/etc/environment.d")]
    problems = [f"{path} sets an apt proxy" for path, text in _texts(guest.files, apt) if _APT_PROXY.search(text)]
    dnf = ["/etc/dnf/dnf.conf", "/etc/yum.conf", *_within(guest.files, "/etc/yum.repos.d", (".repo",))]
    problems += [f"{path} sets a dnf proxy" for path, text in _texts(guest.files, dnf) if _DNF_PROXY.search(text)]
    for path, text in _texts(guest.files, [*apt, *shells]):
        problems += [f"{path} sets {name}" for name in _PROXY.findall(text)]
    return outcome(problems, "none")


def resolver(guest: Guest) -> Outcome:
    """The guest finds its own name servers, and has no copy of the builder's file."""
    copies = [f"/etc/{name}" for name in guest.files.listdir("/etc") if "resolv.conf" in name and name != "resolv.conf"]
    texts = _texts(guest.files, copies)
    copied = [f"{path} names a name server" for path, text in texts if re.search("nameserver", text)]
    target = guest.files.target("/etc/resolv.conf")
    if target is not None:
        target_path = os.path.normpath(PurePosixPath("/etc") / target)
        wrong = [] if target_path.startswith("/run/") else [f"/etc/resolv.conf points to {target_path}"]
        return outcome(wrong + copied, target_path)
    servers = re.findall(r"^\s*nameserver\s+(\S+)", guest.files.text("/etc/resolv.conf") or "", re.MULTILINE)
    named = [f"/etc/resolv.conf names the name server {server}" for server in servers]
    return outcome(named + copied, "no name server")


def dib_traces(guest: Guest) -> Outcome:
    """Nothing of diskimage-builder: its manifests hold the build's environment."""
    suspects = ["/etc/dib-manifests", "/lib/diskimage-builder", "/tmp/in_target.d", "/tmp/in_target.aux"]
    suspects += ["/usr/share/pkg-map", "/usr/local/bin/install-packages"]
    found = [path for path in suspects if guest.files.lstat(path)]
    names = ("dib_environment", "dib_arguments", "dib-manifest-dpkg-", "dib-manifest-rpm-", "dib-manifest-git-")
    found += [path for path in guest.files.walk("/etc") if path.rsplit("/", 1)[1].startswith(names)]
    tools = ("dib-", "guest-")
    found += [f"/usr/local/bin/{name}" for name in guest.files.listdir("/usr/local/bin") if name.startswith(tools)]
    problems = [f"{path} belongs to diskimage-builder" for path in sorted(set(found))]
    for path in ("/usr/sbin/update-initramfs", "/etc/kernel/install.d/50-dracut.install"):
        if guest.files.target(path) is not None:
            problems.append(f"{path} is still disabled, as during the build")
    return outcome(problems, "none")


def temporary_files(guest: Guest) -> Outcome:
    """/tmp and /var/tmp are empty."""
    found = [f"{folder}/{name}" for folder in ("/tmp", "/var/tmp") for name in guest.files.listdir(folder)]
    return outcome([f"{path} was left behind" for path in found], "/tmp and /var/tmp are empty")


def package_cache(guest: Guest) -> Outcome:
    """No downloaded packages and no package lists, which would be the builder's, and soon outdated."""
    lists = (path for path, entry in guest.files.walk("/var/lib/apt/lists").items() if entry.is_file)
    caches = [path for path in guest.files.walk("/var/cache/apt") if path.endswith((".deb", ".bin"))]
    caches += [path for at in ("dnf", "yum") for path, e in guest.files.walk(f"/var/cache/{at}").items() if e.is_file]
    found = [path for path in lists if not path.endswith("/lock")] + caches
    return outcome([f"{path} is cached" for path in found], "empty")


def subscription(guest: Guest) -> Outcome:
    """No subscription, and no history of who installed what: RHEL's identity is each server's own."""
    folders = ("/etc/pki/consumer", "/etc/pki/entitlement", "/var/lib/rhsm")
    found = [path for at in folders for path, entry in guest.files.walk(at).items() if entry.is_file]
    found += [f"/var/lib/dnf/{name}" for name in guest.files.listdir("/var/lib/dnf") if name.startswith("history")]
    return outcome([f"{path} comes from the build" for path in found], "none")


def logs(guest: Guest) -> Outcome:
    """No log has content: it would be about the build and not about the server."""
    found = [path for path, entry in guest.files.walk("/var/log").items() if entry.is_file and entry.size]
    return outcome([f"{path} has content" for path in found], "none has content")


def random_seed(guest: Guest) -> Outcome:
    """Every server has its own randomness."""
    paths = ("/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret", "/var/lib/urandom/random-seed")
    found = [path for path in paths if guest.files.lstat(path)]
    return outcome([f"{path} would be the same on every server" for path in found], "none")


CHECKS: tuple[tuple[str, Callable[[Guest], Outcome]], ...] = (
    ("private-keys", private_keys),
    ("host-keys", host_keys),
    ("machine-id", machine_id),
    ("logins", logins),
    ("package-sources", package_sources),
    ("proxy", proxy),
    ("resolver", resolver),
    ("dib-traces", dib_traces),
    ("temporary-files", temporary_files),
    ("package-cache", package_cache),
    ("subscription", subscription),
    ("logs", logs),
    ("random-seed", random_seed),
)


def _apt_sources(files: FileSystem) -> Iterator[tuple[str, str]]:
    """Each URI that apt knows, or that cloud-init will write for it, with the file that has it."""
    paths = ["/etc/apt/sources.list", *_within(files, "/etc/apt/sources.list.d", (".list", ".sources"))]
    paths += _within(files, "/etc/cloud/cloud.cfg.d", (".cfg",))
    for path, text in _texts(files, paths):
        yield from ((path, uri) for line in _SOURCE.findall(text) for uri in line.split() if "://" in uri)


def _dnf_sources(files: FileSystem) -> Iterator[tuple[str, str]]:
    """Each address of an enabled repository of dnf's, with the file that has it."""
    for path, text in _texts(files, _within(files, "/etc/yum.repos.d", (".repo",))):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.read_string(text)
        for repository in (parser[name] for name in parser.sections()):
            if repository.get("enabled", "1").lower() in {"1", "true", "yes", "on"}:
                addresses = " ".join(repository.get(key, "") for key in ("baseurl", "mirrorlist", "metalink"))
                yield from ((path, uri) for uri in re.split(r"[\s,]+", addresses) if uri)


def _is_at(uri: str, domains: Iterable[str]) -> bool:
    host = urlsplit(uri).hostname or ""
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


def _within(files: FileSystem, folder: str, endings: tuple[str, ...] = ("",)) -> list[str]:
    return [f"{folder}/{name}" for name in files.listdir(folder) if name.endswith(endings)]


def _texts(files: FileSystem, paths: Iterable[str]) -> list[tuple[str, str]]:
    return [(path, content.decode(errors="replace")) for path, content in files.contents(paths).items()]
