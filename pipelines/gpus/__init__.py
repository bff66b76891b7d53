"""GPUs, driver branches, CUDA versions, and which of them fit together."""
