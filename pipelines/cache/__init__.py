"""The cache below builds/.cache: layers, kernel modules, downloads."""
