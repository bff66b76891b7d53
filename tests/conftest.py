"""What all tests share."""

pytest_plugins = ["cloud_fixtures", "host_fixtures", "openpgp"]
