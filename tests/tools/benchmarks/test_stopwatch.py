"""The stopwatch of stages: each second counts once, for the innermost stage."""

import pytest

from pose.tools.benchmarks._stopwatch import Stopwatch


class Clock:
    """Shows the time that it was turned to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def turn(self, seconds):
        self.now += seconds
        return seconds


@pytest.fixture
def clock():
    return Clock()


def test_a_stage_within_another_is_not_part_of_it(clock):
    stopwatch = Stopwatch(clock)
    inner = stopwatch.timed("inner", clock.turn)

    with stopwatch.stage("outer"):
        clock.turn(1)
        inner(10)
        with stopwatch.stage("middle"):
            clock.turn(100)
            assert inner(seconds=1000) == 1000
        clock.turn(2)
    inner(20)

    assert stopwatch.reset() == {"inner": 1030, "middle": 100, "outer": 3}


def test_reset_begins_anew(clock):
    stopwatch = Stopwatch(clock)
    with stopwatch.stage("stage"):
        clock.turn(5)

    assert stopwatch.reset() == {"stage": 5}
    assert stopwatch.reset() == {}


def test_an_error_passes_through_and_its_time_counts(clock):
    stopwatch = Stopwatch(clock)
    with pytest.raises(OSError, match="damaged"), stopwatch.stage("outer"), stopwatch.stage("inner"):
        clock.turn(3)
        raise OSError("damaged")
    assert stopwatch.reset() == {"outer": 0, "inner": 3}
