"""The cloud's compute service."""
