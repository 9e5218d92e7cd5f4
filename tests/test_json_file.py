"""Every damage of a JSON file is one line: file, place, expected, got."""

import gc
import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from pose.errors import DataError
from pose.files import write_json
from pose.json_file import PIECE_BYTES, paused_garbage_collection, read_json


class Row(msgspec.Struct):
    score: Annotated[float, msgspec.Meta(ge=0, le=1)]
    id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    name: str = ""
    box: tuple[float, float] = (0, 0)


class Content(msgspec.Struct):
    rows: list[Row]


def read(path: Path, content: bytes | str, content_type: Any = Content) -> Any:
    path = path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_json(path, content_type, "rows")


def error_of(path: Path, content: bytes | str, content_type: Any = Content) -> str:
    with pytest.raises(DataError) as caught:
        read(path, content, content_type)
    message = str(caught.value)
    assert message.startswith(f"{path / 'a.json'}: ")
    assert message.isprintable(), "one line"
    assert len(message) < len(str(path)) + 250
    return message


def rows(text: str) -> str:
    return f'{{"rows": [{{"score": 0.5}}, {text}]}}'


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b" \n"])
def test_text_with_or_without_byte_order_mark_is_read(tmp_path: Path, start: bytes) -> None:
    assert read(tmp_path, start + rows('{"score": 1, "other": [1, {}]}').encode()).rows == [Row(0.5), Row(1.0)]


def test_utf_16_is_read_as_the_standard_library_reads_it(tmp_path: Path) -> None:
    assert read(tmp_path, rows('{"score": 1, "name": "é"}').encode("utf-16")).rows[1].name == "é"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ('{"score": "0.9", "id": 7}', 'rows[1].score (id 7): expected a number, got "0.9"'),
        ('{"score": null}', "rows[1].score: expected a number, got null"),
        ('{"score": true}', "rows[1].score: expected a number, got true"),
        ('{"score": [0.5]}', "rows[1].score: expected a number, got [0.5]"),
        ('{"score": 1.5}', "rows[1].score: expected a number <= 1.0, got 1.5"),
        ('{"score": 1e999}', "rows[1].score: expected a finite number, got 1e999"),
        (f'{{"score": {"9" * 400}}}', f"rows[1].score: expected a finite number, got {'9' * 40}..."),
        (f'{{"score": {"9" * 5000}}}', f"rows[1].score: expected a finite number, got {'9' * 40}..."),
        (f'{{"score": 1, "id": {"9" * 400}}}', "rows[1].id (id 9999999999"),
        (f'{{"score": 1, "id": {"9" * 5000}}}', "expected a finite number, got 99999"),
        ('{"score": 1, "id": 9223372036854775808}', "expected an integer <= 9223372036854775807, got 9223372036854775"),
        ('{"score": 1, "id": 1.5}', "rows[1].id (id 1.5): expected "),
        ('{"score": 1, "box": 5}', "rows[1].box: expected a list, got 5"),
        ('{"score": 1, "box": [1, 2, 3]}', "rows[1].box: expected a list of length 2, got [1, 2, 3]"),
        ('{"score": 1, "box": [1, "wide"]}', 'rows[1].box[1]: expected a number, got "wide"'),
        ('{"scores": 1}', "rows[1]: expected 'score', got scores; did you mean 'scores'?"),
        ("{}", "rows[1]: expected 'score', got "),
        ("5", "rows[1]: expected a mapping, got 5"),
        (f'{{"score": "{"long " * 1000}"}}', 'rows[1].score: expected a number, got "long long'),
    ],
    ids=lambda text: text[:40],
)
def test_a_field_of_another_type_is_named_with_its_place_and_value(tmp_path: Path, row: str, expected: str) -> None:
    assert expected in error_of(tmp_path, rows(row))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "not JSON at line 1, column 1 (the text ends early); is the file complete?"),
        ('{"rows": [', "not JSON at line 1, column 11 (the text ends early)"),
        ('{"rows":\n [{"score": NaN}]}', "not JSON at line 2, column 13 (invalid character NaN}]}); write finite"),
        ('{"rows": [{"score": -Infinity}]}', "(invalid character Infinity}]}); write finite"),
        ('{"rows": [], }', "trailing comma"),
        (b"\x1f\x8b\x08\xff\xfe", "expected JSON text, got binary data"),
        (b'{"rows": [{"score": 1, "name": "\xff"}]}', "binary data"),
        (b'{"rows": [{"score": 1, "skipped\xff": 2}]}', "binary data"),
        (b'{"rows": [{"score": 1}], "skipped": "\xc3"}', "binary data"),
        ('{"rows": [{"score": 1, "name": "\\ud800"}]}', "not JSON"),
        ('{"rows": [{"score": 1, "other": ' + "[" * 100_000 + "]" * 100_000 + "}]}", "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "expected rows, got a list"),
        ("3", "expected rows, got an integer"),
        ("{}", "expected rows: expected 'rows', got "),
        ('{"row": []}', "expected rows: expected 'rows', got row; did you mean 'row'?"),
    ],
    ids=lambda text: str(text)[:40],
)
def test_text_that_is_not_the_expected_json_is_one_line(tmp_path: Path, content: bytes | str, expected: str) -> None:
    assert expected in error_of(tmp_path, content)


def test_deep_nesting_is_an_error_whatever_is_expected(tmp_path: Path) -> None:
    assert "nested too deeply" in error_of(tmp_path, "[" * 100_000 + "]" * 100_000, Any)


def test_a_row_of_a_list_is_named_by_its_number(tmp_path: Path) -> None:
    assert 'row 1, score (id 4): expected a number, got "x"' in error_of(
        tmp_path, '[{"score": 1}, {"score": "x", "id": 4}]', list[Row]
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_device_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match="expected a regular file"):
            read_json(path, Content, "rows")


@pytest.mark.parametrize("name", ["b.json", "x/y.json", "n" * 300, "a\0b"], ids=["missing", "folder", "long", "NUL"])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"no such file|cannot be read"):
        read_json(tmp_path / name, Content, "rows")


def test_a_missing_file_suggests_a_similar_name(tmp_path: Path) -> None:
    write_json(tmp_path / "annotations.json", {})
    with pytest.raises(DataError, match=r"no such file; did you mean 'annotations\.json'\?"):
        read_json(tmp_path / "anotations.json", Content, "rows")


@pytest.mark.parametrize("before", range(4))
def test_a_character_between_two_pieces_of_a_long_text_is_read(tmp_path: Path, before: int) -> None:
    start = '{"rows": [{"score": 1, "name": "'
    text = start + "x" * (PIECE_BYTES - len(start) - before) + "💀" + "y" * PIECE_BYTES
    (tmp_path / "rows.json").write_text(text + '"}]}', encoding="utf-8")
    assert read_json(tmp_path / "rows.json", Content, "rows").rows[0].score == 1


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_as_before_after_a_pause_even_one_with_an_error(enabled):
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(DataError), paused_garbage_collection():
            assert not gc.isenabled()
            raise DataError("x")
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
