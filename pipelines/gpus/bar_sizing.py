"""Firmware and address width that a guest's GPUs need.

A GPU's BARs are mapped into the guest's physical addresses, above its RAM. QEMU gives a guest 40 address bits unless
told otherwise. OVMF (PlatformInitLib's MemDetect.c) believes a width from 41 bits on, up to 46, and gives PCI an eighth
of those addresses; for less it keeps a window of 32 GiB. Nova's hw_maxphysaddr_mode (libvirt 8.7, QEMU 2.7) says the
width: `emulate` with hw_maxphysaddr_bits, on a host that has as many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2

from pipelines.gpus.database import Gpu, facts, models_of
from pipelines.util import units

_OTHER_BARS = 1 / 16  # GiB: a GPU's BAR0 and BAR3 are 16 to 64 MiB each
_LOW = 0.5  # GiB: what fits below 4 GiB, among all else there
_OLD_WINDOW = 32  # GiB
_WINDOW_BITS = 3  # OVMF: an eighth of the addresses
_BELIEVED, _MOST = 41, 46


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Glance properties that a guest with these GPUs needs, and the sentences that say why."""

    properties: Mapping[str, str]
    reasons: tuple[str, ...]


def placement(gpus: Sequence[str], count: int, ram_gib: int) -> Placement:
    """For a guest with `count` GPUs, all of the one with the largest BAR among `gpus`, and `ram_gib` GiB of RAM."""
    models = [facts().gpus[model] for name in gpus for model in models_of(name)]
    if not models or count < 1:
        return Placement(properties={}, reasons=())
    gpu = max(models, key=lambda model: model.bar)
    switches = _switches(models)
    if not gpu.bar:
        why = f"{gpu.label}'s memory is not behind a PCI BAR, and arm64 guests boot only with UEFI"
        return Placement(properties={"hw_firmware_type": "uefi"}, reasons=(why, *switches))
    firmware, where = _firmware(gpu, count)
    width, sums = _width(gpu, count, ram_gib)
    return Placement(properties=firmware | width, reasons=(where, *sums, *switches))


def _firmware(gpu: Gpu, count: int) -> tuple[dict[str, str], str]:
    if count * gpu.bar <= _LOW:
        return {}, f"{count} × {_size(gpu.bar)}, the BAR of {gpu.label}, fit below 4 GiB"
    return {"hw_firmware_type": "uefi"}, f"{gpu.label}'s BAR of {_size(gpu.bar)} lies above 4 GiB, where UEFI maps it"


def _width(gpu: Gpu, count: int, ram_gib: int) -> tuple[dict[str, str], tuple[str, ...]]:
    need = count * (gpu.bar + _OTHER_BARS)
    together = f"{count} × {_size(gpu.bar)} of addresses for {count} × {gpu.label}, and a little more"
    if need <= _OLD_WINDOW and ram_gib + 2 * _OLD_WINDOW <= _gib(_BELIEVED - 1):
        return {}, (f"{together}: OVMF's window of {_OLD_WINDOW} GiB holds them",)
    window = 2 ** ceil(log2(need))
    bits = max(_BELIEVED, ceil(log2(need)) + 30 + _WINDOW_BITS)
    while ram_gib + 4 > _gib(bits) - _gib(bits - _WINDOW_BITS):
        bits += 1
    why = (
        f"{together}: a window of {_size(window)}; OVMF makes it an eighth of all addresses, which are "
        f"{_size(_gib(bits))} with {bits} bits, and {ram_gib} GiB of RAM fit below it; with QEMU's default of 40 bits "
        f"({_size(_gib(40))}) it is {_OLD_WINDOW} GiB"
    )
    properties = {"hw_maxphysaddr_mode": "emulate", "hw_maxphysaddr_bits": str(bits)}
    if bits > _MOST:
        return properties, (why, f"OVMF uses at most {_MOST} bits: give the guest fewer GPUs or less RAM")
    return properties, (why,)


def _switches(models: Sequence[Gpu]) -> tuple[str, ...]:
    found = next((gpu for gpu in models if gpu.nvswitch), None)
    if found is None:
        return ()
    return (f"a guest that also gets {found.label}'s NVSwitches needs the fabric manager: write fabric_manager: true",)


def _gib(bits: int) -> int:
    return int(2 ** (bits - 30))


def _size(gib: float) -> str:
    return units.size(int(gib * 2**30))
