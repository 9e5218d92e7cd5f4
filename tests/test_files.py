"""Atomic file writes."""

import json
import math
from pathlib import Path

import pytest

from pose.errors import DataError, MediaError
from pose.files import replacing, to_json, write_json


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


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_never_written_and_the_older_file_stays(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.json"
    write_json(path, [1])
    with pytest.raises(DataError, match="not written, because a number in it is infinite or not a number"):
        write_json(path, {"deep": [{"score": value}]})
    assert path.read_text() == "[1]"


def test_json_is_written_as_the_standard_library_writes_it(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None, True, "é"], "b": {}}
    write_json(tmp_path / "new/a.json", content, indent=2)
    assert (tmp_path / "new/a.json").read_text() == json.dumps(content, indent=2) + "\n"
    assert to_json(content, "x") == json.dumps(content)
