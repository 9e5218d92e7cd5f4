"""Error messages on the terminal: one short line of printable characters."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose.errors import MAX_LINE, DataError, near_name, one_line, shorten


@given(st.text(), st.integers(20, 100))
def test_a_shortened_text_has_at_most_the_given_length_and_keeps_both_ends(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert len(short) <= limit
    assert short == text or (text.startswith(short.partition("...")[0]) and text.endswith(short[-limit // 5 :]))


@given(st.text(st.characters()))
def test_a_line_is_printable_and_short_for_any_message(message: str) -> None:
    line = one_line(10 * message)
    assert line.isprintable()
    assert len(line) <= MAX_LINE


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("a.json: no such\nfile", "a.json: no such file"),
        ("a\x1b[31mb\0c\td", "a\\x1b[31mb\\x00c\\td"),
        ("image \udcff.jpg", "image \\udcff.jpg"),
        ("Bild 'Straße'", "Bild 'Straße'"),
    ],
)
def test_characters_that_a_terminal_does_not_print_are_escaped(message: str, line: str) -> None:
    assert one_line(message) == line


@given(st.text(st.characters()))
def test_the_text_of_an_error_is_a_line_that_fits_a_command_line(message: str) -> None:
    text = str(DataError(10 * message))
    assert f"error: {text}" == one_line(f"error: {text}")


def test_an_error_keeps_its_whole_message_for_other_processes() -> None:
    message = "a\nb" * 1000
    assert pickle.loads(pickle.dumps(DataError(message))).args == (message,)


def test_a_long_value_is_shortened_before_the_advice_at_the_end_is() -> None:
    line = one_line(f"{'x' * 5000}: expected a number, got '{'9' * 5000}'; give another one")
    assert line.startswith("xxx")
    assert ": expected a number, got '999" in line
    assert line.endswith("; give another one")


def test_a_near_name_is_suggested() -> None:
    assert near_name("epoch", ["epochs", "seed"]) == "; did you mean 'epochs'?"
    assert near_name("x" * 100_000, ["epochs"]) == ""
