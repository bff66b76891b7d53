"""The way into a cloud: clouds.yaml, authenticated sessions, errors of OpenStack services."""
