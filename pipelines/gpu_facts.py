"""What is known about GPUs, driver branches and CUDA?

gpus.yaml as frozen values; every block there names its public source.
"""


def known() -> tuple[str, ...]:
    """The names that `gpus` takes: models, then generations."""
    raise NotImplementedError


def models_of(name: str) -> tuple[str, ...]:
    """The models of a generation, or the model itself; KeyError for an unknown name."""
    raise NotImplementedError(name)


def by_pci_id(device_id: str) -> str | None:
    """The model with a PCI device ID such as "2330" (vendor 10de); None where it is not in the table."""
    raise NotImplementedError(device_id)
