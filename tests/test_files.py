"""Atomic file writes."""

from pathlib import Path

import pytest

from pose.errors import MediaError
from pose.files import replacing


def test_replacing_keeps_the_old_content_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")

    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.suffix == ".json"  # some libraries choose the format by the suffix

    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_keeps_the_old_content_after_an_error_and_removes_the_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")

    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("partial")
        raise KeyError

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_creates_the_folder(tmp_path: Path) -> None:
    with replacing(tmp_path / "a/b/out.json") as temporary:
        temporary.write_text("new")

    assert (tmp_path / "a/b/out.json").read_text() == "new"


def test_replacing_refuses_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(MediaError, match="cannot write"), replacing(tmp_path / "file" / "out.json"):
        pass
