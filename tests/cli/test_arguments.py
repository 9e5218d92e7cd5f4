"""Types of arguments: numbers in their range, names that can be written."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

import pytest

from pose.cli.arguments import (
    finite_number,
    fraction,
    output_file,
    output_folder,
    output_page,
    output_path,
    output_weights,
    positive_count,
    seed_number,
)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (positive_count, "1", 1),
        (positive_count, "2147483647", 2147483647),
        (seed_number, "0", 0),
        (finite_number, "-1e3", -1000.0),
        (fraction, "0", 0.0),
        (fraction, "1.0", 1.0),
    ],
)
def test_a_number_in_its_range_is_parsed(parse: Callable[[str], float], text: str, value: float) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((positive_count, text) for text in ("0", "-1", "1.5", "x", "2147483648", "9" * 5000, "²", "٣")),
        *((seed_number, text) for text in ("-1", "1e3", "9" * 5000)),
        *((finite_number, text) for text in ("nan", "inf", "-inf", "1e999", "x", "")),
        *((fraction, text) for text in ("nan", "-0.1", "1.01", "2", "9" * 5000)),
    ],
)
def test_a_number_out_of_its_range_is_refused_in_a_short_message(parse: Callable[[str], float], text: str) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        parse(text)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("parse", [output_file, output_folder, output_path])
def test_a_name_that_cannot_be_written_is_refused(parse: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("n" * 256, "名" * 100, "file/x", "loop", "loop/x", "n/" * 3000):
        with pytest.raises(ArgumentTypeError) as caught:
            parse(str(tmp_path / name))
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize("parse", [output_file, output_folder, output_path])
def test_a_new_name_below_folders_that_do_not_exist_is_accepted(parse: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("new", "a/b/c", "n" * 255, "bytes\udcff"):
        assert parse(str(tmp_path / name)) == tmp_path / name


@pytest.mark.parametrize(("parse", "suffix"), [(output_page, "html"), (output_weights, "pt")])
def test_a_page_and_a_weight_file_have_their_suffix(parse: Callable[[str], Path], suffix: str, tmp_path: Path) -> None:
    for name in (f"a.{suffix}", f"a.{suffix.upper()}"):
        assert parse(str(tmp_path / name)) == tmp_path / name
    for name in ("a.json", "a", suffix):
        with pytest.raises(ArgumentTypeError, match=rf"expected the name of a \.{suffix} file to write"):
            parse(str(tmp_path / name))


def test_a_file_is_no_folder_and_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert output_file(str(tmp_path / "file")) == output_path(str(tmp_path / "file"))
    assert output_folder(str(tmp_path)) == output_path(str(tmp_path))
    with pytest.raises(ArgumentTypeError, match="expected the name of a file to write, got the folder"):
        output_file(str(tmp_path))
    with pytest.raises(ArgumentTypeError, match="expected a folder to write into, got the file"):
        output_folder(str(tmp_path / "file"))
    with pytest.raises(ArgumentTypeError, match="got the folder or device"):
        output_file("/dev/null")
