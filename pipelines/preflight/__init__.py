"""Checks of the build host, for builds and for `inv doctor`."""
