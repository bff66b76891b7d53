"""Checks for traces of the build, each seen failing on a small guest with one trace."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.catalog.variant import Base
from tests.support.small_image import (
    PRIVATE_KEY,
    VARIANT,
    Guest,
    Link,
)
from tests.support.verification import examined, refusal

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("check", "path", "content", "problem"),
    [
        ("private-keys", "/root/key.pem", b"x" * 5000 + PRIVATE_KEY, "there is a private key in /root/key.pem"),
        ("private-keys", "/var/lib/dkms/mok.key", "DER", "/var/lib/dkms/mok.key is a signing key"),
        ("host-keys", "/etc/ssh/ssh_host_ed25519_key", "x", "would be the same on every server"),
        ("machine-id", "/etc/machine-id", "0123456789abcdef0123456789abcdef\n", "/etc/machine-id is 0123456789abcdef"),
        ("machine-id", "/var/lib/dbus/machine-id", "0123", "/var/lib/dbus/machine-id is a copy, not a link"),
        ("logins", "/etc/shadow", "root:$6$salt$hash:20000::::::\n", "root has a password"),
        ("logins", "/etc/shadow", "root::20000::::::\n", "root can log in without a password"),
        ("logins", "/home/debian/.ssh/authorized_keys", "ssh-ed25519 AAAA\n", "authorized_keys has an authorized key"),
        (
            "package-sources",
            "/etc/apt/sources.list",
            "deb [trusted=yes] http://10.0.0.1/debian trixie main\n",
            "10.0.0.1",
        ),
        ("package-sources", "/etc/apt/sources.list.d/x.sources", "Types: deb\nURIs: http://10.0.0.1/d\n", "10.0.0.1"),
        (
            "package-sources",
            "/etc/cloud/cloud.cfg.d/x.cfg",
            "apt:\n  primary:\n    - uri: http://10.0.0.1/d\n",
            "10.0.0.1",
        ),
        ("proxy", "/etc/apt/apt.conf.d/60proxy", 'Acquire::http::Proxy "http://10.0.0.1:3128";\n', "sets an apt proxy"),
        ("proxy", "/etc/environment", "https_proxy=http://10.0.0.1\n", "/etc/environment sets https_proxy"),
        ("proxy", "/etc/profile.d/x.sh", "export HTTP_PROXY=http://10.0.0.1\n", "/etc/profile.d/x.sh sets HTTP_PROXY"),
        ("resolver", "/etc/resolv.conf", "nameserver 10.0.0.2\n", "names the name server 10.0.0.2"),
        ("resolver", "/etc/resolv.conf", Link("/etc/resolv.builder"), "points to /etc/resolv.builder"),
        ("resolver", "/etc/.resolv.conf.systemd-resolved.bak", "nameserver 10.0.0.2\n", "bak names a name server"),
        ("dib-traces", "/usr/sbin/update-initramfs", Link("/bin/true"), "still disabled"),
        ("dib-traces", "/etc/kernel/install.d/50-dracut.install", Link("/dev/null"), "still disabled"),
        ("dib-traces", "/usr/local/bin/guest-os", "x", "guest-os belongs to diskimage-builder"),
        ("dib-traces", "/usr/share/pkg-map/gpt-disk", "x", "/usr/share/pkg-map belongs to diskimage-builder"),
        ("dib-traces", "/etc/dib-manifests/dib_environment", "A=b", "/etc/dib-manifests belongs to diskimage-builder"),
        (
            "dib-traces",
            "/usr/local/bin/dib-run-parts",
            "x",
            "/usr/local/bin/dib-run-parts belongs to diskimage-builder",
        ),
        ("temporary-files", "/var/tmp/left", "x", "/var/tmp/left was left behind"),
        ("package-cache", "/var/cache/apt/archives/x.deb", "x", "x.deb is cached"),
        ("package-cache", "/var/lib/apt/lists/partial/x_Packages", "x", "x_Packages is cached"),
        ("logs", "/var/log/apt/history.log", "Start-Date", "/var/log/apt/history.log has content"),
        ("random-seed", "/var/lib/systemd/random-seed", "x", "would be the same on every server"),
    ],
)
def test_a_trace_of_the_builder_is_found(
    tmp_path: Path, check: str, path: str, content: bytes | str | Link, problem: str
) -> None:
    guest = Guest()
    guest.files[path] = content
    assert problem in refusal(check, guest, tmp_path)


def test_an_apt_setting_in_a_comment_is_no_proxy(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/etc/apt/apt.conf.d/10example"] = '// Acquire::http::Proxy "http://10.0.0.1";\n'
    assert examined("proxy", guest, tmp_path).passed


def test_the_declared_guest_mirror_is_allowed_and_another_is_not(tmp_path: Path) -> None:
    base = Base(distribution="debian", release="trixie", guest_mirror="http://mirror.example/debian")
    variant = replace(VARIANT, base=base)
    guest = Guest()
    guest.files["/etc/apt/sources.list"] = (
        "deb http://mirror.example/debian trixie main\ndeb http://10.0.0.1/debian trixie main\n"
    )
    assert refusal("package-sources", guest, tmp_path, variant) == "/etc/apt/sources.list has http://10.0.0.1/debian"
