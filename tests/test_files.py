"""Files that are written: atomic, all or none, with a line for what cannot be written, never over an input."""

import errno
import json
import os
import subprocess
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest

from pose.errors import DataError, MediaError
from pose.files import check_outputs, replacing, replacing_with, write_json, write_text, write_texts

# --- writing


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


def test_a_write_that_fails_inside_replacing_names_the_file_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")

    with pytest.raises(MediaError, match=rf"{path}: cannot write it \(No space left"), replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as file.write raises it, without a file name

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_another_file_keeps_its_kind_inside_replacing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "out.json"):
        (tmp_path / "input.json").read_text()


def test_a_closed_pipe_inside_replacing_is_not_an_error_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), replacing(tmp_path / "out.json"):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


@pytest.mark.parametrize("length", [235, 250, 255])
def test_replacing_writes_a_file_whose_name_has_the_maximum_length(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("n" * (length - 5) + ".json")
    write_text(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_a_path_without_a_name_is_refused_as_a_folder(name: str) -> None:
    with pytest.raises(MediaError, match="folder"), replacing(name):
        pass


def test_replacing_refuses_to_replace_a_folder_or_a_device(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, fifo):
        with pytest.raises(MediaError, match="expected the name of a file to write"):
            write_text(path, "")
    assert fifo.is_fifo()


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="no file can have this name"):
        write_text(tmp_path / name, "")


def test_text_with_a_file_name_that_is_not_utf8_is_written_with_an_escape(tmp_path: Path) -> None:
    write_text(tmp_path / "out.txt", "image \udcff.jpg")
    assert (tmp_path / "out.txt").read_text() == "image \\udcff.jpg"


LIMITED = """
import resource, sys
from pathlib import Path
from pose.errors import MediaError
from pose.files import write_texts
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_texts({Path(sys.argv[1], "small"): "new", Path(sys.argv[1], "large"): "x" * 20_000})
except MediaError as error:
    print(error)
"""


def test_two_files_of_which_one_does_not_fit_on_the_disk_are_both_left_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "small").write_text("old")
    done = subprocess.run([sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True)
    assert done.stdout.startswith(f"{tmp_path / 'large'}: cannot write it (File too large)"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    assert (tmp_path / "small").read_text() == "old"


def test_several_texts_are_written(tmp_path: Path) -> None:
    write_texts({tmp_path / "a": "1", tmp_path / "b/c": "2"})
    assert (tmp_path / "a").read_text() + (tmp_path / "b/c").read_text() == "12"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_never_written_as_json(tmp_path: Path, number: float) -> None:
    with pytest.raises(DataError, match=r"out\.json: not written, because a number in it is infinite"):
        write_json(tmp_path / "out.json", {"score": [number]})
    assert not list(tmp_path.iterdir())


def test_json_is_compact_or_indented_with_a_line_break_at_the_end(tmp_path: Path) -> None:
    write_json(tmp_path / "out.json", {"a": 1})
    assert (tmp_path / "out.json").read_text() == '{"a": 1}'
    write_json(tmp_path / "out.json", {"a": 1}, indent=2)
    assert (tmp_path / "out.json").read_text() == '{\n  "a": 1\n}\n'
    assert json.loads((tmp_path / "out.json").read_text()) == {"a": 1}


# --- outputs that are inputs


def link_to(path: Path, kind: str) -> Path:
    link = path.with_name(f"{kind}.json")
    if kind == "same":
        return path
    if kind == "symbolic":
        link.symlink_to(path)
    elif kind == "hard":
        link.hardlink_to(path)
    elif kind == "folder":
        path.with_name("linked").symlink_to(path.parent, target_is_directory=True)
        return path.parent / "linked" / path.name
    elif kind == "relative":
        return path.parent / "x" / ".." / path.name
    return link


@pytest.mark.parametrize("kind", ["same", "symbolic", "hard", "folder"])
def test_an_output_that_is_an_input_under_any_name_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "input.json"
    path.write_text("")
    with pytest.raises(MediaError, match="is an input of the same command"):
        check_outputs([None, link_to(path, kind)], [None, "rtsp://camera", path])


@pytest.mark.parametrize("kind", ["same", "symbolic", "folder", "relative"])
def test_two_outputs_that_are_one_new_file_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "new.json"
    with pytest.raises(MediaError, match="is another output of the same command"):
        check_outputs([path, None, link_to(path, kind)], [tmp_path / "in.mp4"])


def test_other_outputs_are_accepted_even_with_odd_names(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    check_outputs([tmp_path / "a", tmp_path / "b"], [tmp_path / "c", loop, "n" * 5000, "a\0b", "\ud800"])


@pytest.mark.parametrize("fails", [False, True])
def test_files_with_one_stack_are_replaced_all_or_none(fails, tmp_path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        path.write_text("old")

    with (
        pytest.raises(MediaError) if fails else nullcontext(),
        ExitStack() as renames,
        replacing_with(paths[0], renames) as first,
    ):
        with replacing_with(paths[1], renames) as second:
            second.write_text("new")
        assert paths[1].read_text() == "old"
        if fails:
            raise MediaError("the disk is full")
        first.write_text("new")

    assert [path.read_text() for path in paths] == 2 * ["old" if fails else "new"]
    assert len([*tmp_path.iterdir()]) == 2
