"""Stopwatch: each second counts once, for the innermost stage."""

import pytest

from pose.tools.benchmarks._stopwatch import Stopwatch


class Clock:
    """Fake clock that is advanced by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds
        return seconds


@pytest.fixture
def clock():
    return Clock()


def test_nested_stages_do_not_count_in_the_outer_stage(clock):
    stopwatch = Stopwatch(clock)
    inner = stopwatch.timed("inner", clock.advance)

    with stopwatch.stage("outer"):
        clock.advance(1)
        inner(10)
        with stopwatch.stage("middle"):
            clock.advance(100)
            assert inner(seconds=1000) == 1000
        clock.advance(2)
    inner(20)

    assert stopwatch.reset() == {"inner": 1030, "middle": 100, "outer": 3}


def test_reset_sets_all_stages_to_zero(clock):
    stopwatch = Stopwatch(clock)
    with stopwatch.stage("stage"):
        clock.advance(5)

    assert stopwatch.reset() == {"stage": 5}
    assert stopwatch.reset() == {}


def test_an_exception_propagates_and_its_time_counts(clock):
    stopwatch = Stopwatch(clock)
    with pytest.raises(OSError, match="damaged"), stopwatch.stage("outer"), stopwatch.stage("inner"):
        clock.advance(3)
        raise OSError("damaged")
    assert stopwatch.reset() == {"outer": 0, "inner": 3}
