"""Files: never half-written, and digested as other tools do."""

import hashlib
import json
from pathlib import Path

import pytest

from pipelines.util.files import canonical_digest, digests, sha256, write_json


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"state": "running"})
    with pytest.raises(TypeError):
        write_json(path, {"state": "complete", "when": object()})
    assert json.loads(path.read_text()) == {"state": "running"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"state": "old"})
    with path.open() as reader:
        write_json(path, {"state": "new"})
        assert json.load(reader) == {"state": "old"}
    assert json.loads(path.read_text()) == {"state": "new"}


def test_others_may_read_what_we_write(tmp_path: Path) -> None:
    write_json(tmp_path / "state.json", {})
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o644


def test_a_digest_depends_on_content_and_not_on_order() -> None:
    assert canonical_digest({"a": 1, "b": [1, 2]}) == canonical_digest({"b": [1, 2], "a": 1})
    assert canonical_digest({"b": [1, 2]}) != canonical_digest({"b": [2, 1]})


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1])
def test_a_file_has_the_digests_of_all_its_bytes(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "file").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert sha256(tmp_path / "file") == expected
    assert digests(tmp_path / "file") == (expected, hashlib.sha512(content).hexdigest())
