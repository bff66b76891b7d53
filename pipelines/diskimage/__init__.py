"""Disk image files: read, converted, booted."""
