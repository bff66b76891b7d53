"""The keys that sign distributions' images."""

import subprocess
from pathlib import Path

import pytest

from pipelines.catalog import signing_keys


@pytest.mark.parametrize("key", signing_keys.known(), ids=lambda key: f"{key.distribution}{''.join(key.releases)}")
def test_every_key_of_ours_is_the_one_that_its_file_has(key: signing_keys.Key, tmp_path: Path) -> None:
    argv = ["gpg", "--homedir", str(tmp_path), "--batch", "--with-colons", "--show-keys", str(key.keyring)]
    shown = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    fingerprints = [line.split(":")[9] for line in shown if line.startswith("fpr")]
    assert fingerprints[0] == key.fingerprint  # the primary key's; AlmaLinux 9's has a subkey
    assert [line[:3] for line in shown].count("pub") == 1
    assert [line.split(":")[9] for line in shown if line.startswith("uid")] == [key.owner]


def test_a_distribution_has_the_key_of_its_release() -> None:
    found = {
        (name, release): signing_keys.default_key(name, release)
        for name, release in (
            ("ubuntu", "24.04"),
            ("rocky", "9"),
            ("rocky", "10"),
            ("rocky", "8"),
            ("almalinux", "9"),
            ("almalinux", "10"),
            ("debian", "trixie"),
        )
    }
    assert {name: key and key.fingerprint[:8] for name, key in found.items()} == {
        ("ubuntu", "24.04"): "D2EB4462",
        ("rocky", "9"): "21CB256A",
        ("rocky", "10"): "FC226859",
        ("rocky", "8"): None,
        ("almalinux", "9"): "BF18AC28",
        ("almalinux", "10"): "EE6DB7B9",
        ("debian", "trixie"): None,
    }
