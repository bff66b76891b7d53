"""Many images and many clouds: build, release, refresh, status."""
