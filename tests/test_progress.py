"""Progress display: log lines without a terminal, a bar on a terminal."""

import io
import logging
import sys
from types import SimpleNamespace

import pytest

from pose import progress
from pose.progress import ProgressLine, duration


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def lines(caplog, monkeypatch):
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=io.StringIO()))
    caplog.set_level(logging.INFO, logger="pose.progress")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_line_every_30_seconds_with_the_time_left(clock, lines, capsys):
    with ProgressLine("epoch 3", 40, "steps") as line:
        for _ in range(10):
            clock[0] += 7
            line.advance(loss="0.5")

    # After 35 s 5 of 40 are done, after 70 s 10 of 40: 7 s each.
    assert lines() == ["epoch 3: 5/40 steps, 245 s left  loss 0.5", "epoch 3: 10/40 steps, 210 s left  loss 0.5"]
    assert capsys.readouterr().err == ""


def test_the_time_left_excludes_units_done_before_a_resume(clock, lines):
    line = ProgressLine("epoch 3", 40, "steps", initial=20)
    clock[0] += 30

    line.advance(10)

    assert lines() == ["epoch 3: 30/40 steps, 30 s left"]


def test_a_line_without_a_total_has_no_time_left(clock, lines):
    line = ProgressLine("camera", None, "frames")
    clock[0] += 31

    line.advance(300, people="2", fps="9.7")

    assert lines() == ["camera: 300 frames  people 2 fps 9.7"]


def test_no_line_within_the_first_30_seconds(clock, lines):
    with ProgressLine("test", 3, "batches") as line:
        for _ in range(3):
            clock[0] += 9.9
            line.advance()

    assert line.count == 3
    assert lines() == []


def test_a_line_with_no_unit_done_does_not_divide_by_zero(clock, lines):
    line = ProgressLine("test", 3, "batches")
    clock[0] += 30

    line.advance(0)

    assert lines() == ["test: 0/3 batches, 90 s left"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_a_bar_and_no_lines(lines, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)  # tqdm writes to it
    monkeypatch.setattr(progress, "sys", sys)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)

    with ProgressLine("epoch 3", 40, "steps", initial=20) as line:
        line.advance(20, loss="0.25")
        line._bar.refresh()

    shown = terminal.getvalue()
    assert "epoch 3: 100%" in shown
    assert "40/40" in shown
    assert "loss=0.25" in shown
    assert lines() == []


def test_an_exception_in_the_block_is_raised(lines):
    with pytest.raises(ValueError, match="from the block"), ProgressLine("test", 3, "batches"):
        raise ValueError("from the block")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (7200, "2.0 h"), (200_000, "2.3 days")],
)
def test_a_duration_has_a_unit_that_suits_it(seconds, text):
    assert duration(seconds) == text
