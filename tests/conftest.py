"""What all tests share."""

pytest_plugins = ["tests.support.cloud_fixtures", "tests.support.host_fixtures", "tests.support.openpgp"]
