"""Checks of a finished image, without booting it and booted in QEMU."""
