"""Checks of the disk: its partition table and its EFI system partition."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pipelines.catalog.base import Base
from pipelines.catalog.distributions import DISTRIBUTIONS
from pipelines.diskimage import filesystem, gpt
from pipelines.verify.check import Outcome, outcome

# What the removable-media path and the distributions' signed GRUB are called (UEFI specification 2.10, table 3.3).
_EFI_NAMES = {"amd64": ("BOOTX64.EFI", "GRUBX64.EFI"), "arm64": ("BOOTAA64.EFI", "GRUBAA64.EFI")}
_ROOT_TYPES = {"amd64": gpt.ROOT_X86_64, "arm64": gpt.ROOT_ARM64}


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """An artifact as a raw disk, its partition table, and the base that it was built from."""

    path: Path
    table: gpt.PartitionTable
    base: Base


def partition_table(disk: Disk) -> Outcome:
    """A sound GPT with a BIOS boot partition, an ESP and the root, which is last so that it can grow."""
    problems = list(disk.table.problems)
    partitions, architecture = disk.table.partitions, disk.base.architecture
    expected = [*([gpt.BIOS_BOOT] if architecture == "amd64" else []), gpt.ESP, _ROOT_TYPES[architecture]]
    if [partition.type for partition in partitions] != expected:
        names = "BIOS boot, ESP and root" if architecture == "amd64" else "ESP and root"
        problems.append(f"expected {names}, found {_names(partitions)}")
    for before, after in pairwise(partitions):
        if before.start + before.size > after.start:
            problems.append(f"{before.name} overlaps {after.name}")
    if partitions and partitions[-1].start + partitions[-1].size > disk.path.stat().st_size:
        problems.append(f"{partitions[-1].name} ends beyond the end of the disk")
    return outcome(problems, f"GPT, both copies sound: {_names(partitions)}")


def esp(disk: Disk) -> Outcome:
    """UEFI finds the signed shim on its removable-media path, shim finds GRUB, GRUB finds its menu."""
    partition = disk.table.esp
    if partition is None:
        return False, "there is no EFI system partition"
    shim, grub = _EFI_NAMES[disk.base.architecture]
    menu = f"/EFI/{DISTRIBUTIONS[disk.base.distribution].efi_vendor}/grub.cfg"
    found = {path.upper() for path in filesystem.esp_files(disk.path, partition)}
    expected = (f"/EFI/BOOT/{shim}", f"/EFI/BOOT/{grub}", menu)
    problems = [f"{path} is missing" for path in expected if path.upper() not in found]
    if not problems and "configfile" not in filesystem.esp_text(disk.path, partition, menu):
        problems.append(f"{menu} loads no menu from the root file system")
    return outcome(problems, ", ".join(expected))


CHECKS: tuple[tuple[str, Callable[[Disk], Outcome]], ...] = (
    ("partition-table", partition_table),
    ("esp", esp),
)


def _names(partitions: tuple[gpt.Partition, ...]) -> str:
    return ", ".join(partition.name for partition in partitions) or "no partitions"
