"""Checks of this build host."""
