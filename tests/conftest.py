"""What all tests share: an environment of their own, and fixtures."""

pytest_plugins = [
    "tests.support.hermetic",  # first: the others import modules of ours
    "tests.support.cloud_fixtures",
    "tests.support.host_fixtures",
    "tests.support.openpgp",
]
