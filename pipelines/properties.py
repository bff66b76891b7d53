"""Which image properties does Nova understand, and which does a guest need?"""

from collections.abc import Sequence


def derive(*, distribution: str, version: str, architecture: str, gpu: bool, packages: Sequence[str]) -> dict[str, str]:
    """The properties that follow from a variant, as Glance will hold them (strings)."""
    derived = {
        "os_type": "linux",
        "os_distro": distribution,
        "os_version": version,
        "os_admin_user": distribution,
        "architecture": {"amd64": "x86_64", "arm64": "aarch64"}[architecture],
        "hw_rng_model": "virtio",
        "hw_disk_bus": "scsi",
        "hw_scsi_model": "virtio-scsi",
        "hw_video_model": "virtio",
    }
    if gpu:
        derived |= {"hw_machine_type": "q35", "hw_firmware_type": "uefi", "hw_vif_multiqueue_enabled": "true"}
    if "qemu-guest-agent" in packages:
        derived["hw_qemu_guest_agent"] = "yes"
    return derived
