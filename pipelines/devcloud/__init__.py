"""The local test cloud: a real Keystone and Glance on loopback."""
