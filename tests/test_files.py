"""Output files: the old content or the new, never half of it."""

from pathlib import Path

import pytest

from pose.errors import MediaError
from pose.files import replacing


def test_the_old_content_stands_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")

    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.suffix == ".json"  # some libraries choose the format by it

    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_old_content_stands_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")

    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_made(tmp_path: Path) -> None:
    with replacing(tmp_path / "a/b/out.json") as temporary:
        temporary.write_text("new")

    assert (tmp_path / "a/b/out.json").read_text() == "new"


def test_an_impossible_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(MediaError, match="cannot write"), replacing(tmp_path / "file" / "out.json"):
        pass
