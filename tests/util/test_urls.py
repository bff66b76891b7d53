"""What may be shown of a URL."""

import pytest

from pipelines.util import urls


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://images.example/a/b.qcow2", "https://images.example/a/b.qcow2"),
        ("https://me:hunter2@images.example/b.qcow2", "https://images.example/b.qcow2"),
        ("https://token@images.example/b.qcow2", "https://images.example/b.qcow2"),
        ("https://images.example/b.qcow2?signature=hunter2", "https://images.example/b.qcow2"),
        ("https://images.example/lib@1.2/b.qcow2", "https://images.example/lib@1.2/b.qcow2"),
        ("file:///srv/b.qcow2", "file:///srv/b.qcow2"),
    ],
)
def test_neither_user_nor_password_nor_query_is_shown(url: str, shown: str) -> None:
    assert urls.shown(url) == shown


def test_a_file_has_the_name_at_the_end_of_its_path() -> None:
    assert urls.file_name("https://me:hunter2@images.example/a/b.qcow2?at=/c") == "b.qcow2"


@pytest.mark.parametrize(
    ("url", "has"), [("https://a:b@c.example/", True), ("https://a@c.example/", False), ("https://c.example/@", False)]
)
def test_a_password_is_found(url: str, has: bool) -> None:
    assert urls.has_password(url) is has


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        ("s3://bucket/folder", ()),
        ("sftp://me:hunter2@host.example/folder", ("hunter2",)),
        ("sftp://me:hun%23ter@host.example/folder", ("hun%23ter", "hun#ter")),
        ("sftp://me:hun/ter@host.example/folder", ("hun/ter",)),
        ("https://host.example/folder?token=hunter2", ("token=hunter2",)),
    ],
)
def test_what_is_secret_in_a_url_is_known_as_written_and_decoded(url: str, hidden: tuple[str, ...]) -> None:
    assert urls.secrets(url) == hidden
