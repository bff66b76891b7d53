"""GPU guest images for OpenStack: images.yaml → diskimage-builder → Glance."""
