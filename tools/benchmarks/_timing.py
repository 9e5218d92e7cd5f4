"""Timing calls against each other on a machine that is never quite still.

The calls take turns: a round times each of them once, in an order drawn anew, so that whatever else the machine does
meets all of them alike. What is compared is the ratio of their medians, with an interval from resampled rounds.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
"""(rounds,) times of one call, in the order of the rounds."""

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)
"""Percentiles; 95% lie between."""


@dataclass(frozen=True)
class Budget:
    """How much to measure; whichever ends first counts, after a whole round.

    Attributes:
        seconds: no round begins after this time.
        rounds: at most so many; None leaves it to the seconds.
        warmup: rounds before, which are not counted.
    """

    seconds: float = math.inf
    rounds: int | None = None
    warmup: int = 3

    def __post_init__(self) -> None:
        endless = self.rounds is None and math.isinf(self.seconds)
        if endless or not (self.seconds > 0 and (self.rounds is None or self.rounds >= 1) and self.warmup >= 0):
            raise ValueError(f"expected seconds above 0 or rounds from 1, and warmup from 0, got {self}")

    def allows(self, rounds: int, seconds: float) -> bool:
        """Say whether one more round may begin after so many and so long; the first one always may."""
        return not rounds or ((self.rounds is None or rounds < self.rounds) and seconds < self.seconds)


class Quartiles(NamedTuple):
    """A quarter of the times is shorter than ``low``, a quarter longer than ``high``."""

    low: float
    median: float
    high: float


class Ratio(NamedTuple):
    """A ratio of medians and the 95% interval about it."""

    value: float
    low: float
    high: float


def time_interleaved(
    calls: Mapping[str, Callable[[], object]],
    budget: Budget,
    rng: np.random.Generator,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Seconds]:
    """Time calls in turns and return each one's (rounds,) times in seconds; equal places are of the same round.

    No garbage is collected while a call is timed; what a call leaves is freed between the calls.

    Args:
        calls: name to call.
        budget: how much to measure, of all calls together.
        rng: draws the order within each round.
        clock: seconds from any origin.

    Raises:
        ValueError: there are no calls.
    """
    if not calls:
        raise ValueError("expected at least one call to time, got none")
    rounds: list[dict[str, float]] = []
    with _no_collection():
        for _ in range(budget.warmup):
            _time_round(calls, rng, clock)
        start = clock()
        while budget.allows(len(rounds), clock() - start):
            rounds.append(_time_round(calls, rng, clock))
    return {name: np.array([times[name] for times in rounds]) for name in calls}


def _time_round(
    calls: Mapping[str, Callable[[], object]], rng: np.random.Generator, clock: Callable[[], float]
) -> dict[str, float]:
    names = list(calls)
    times = {}
    for index in rng.permutation(len(names)):
        call = calls[names[index]]
        gc.collect(0)  # the young only: a look at every object would cost more than most calls, and the caches' content
        start = clock()
        call()
        times[names[index]] = clock() - start
    return times


@contextmanager
def _no_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def quartiles(times: Seconds) -> Quartiles:
    """Return the quartiles of times, in their unit."""
    return Quartiles(*np.percentile(times, (25, 50, 75)).tolist())


def ratio_of_medians(ours: Seconds, against: Seconds, rng: np.random.Generator) -> Ratio:
    """Return ours over against, with the interval that a bootstrap over rounds gives.

    Whole rounds are drawn: what slowed a round down slowed both calls of it.

    Args:
        ours: (rounds,) of `time_interleaved`.
        against: of the same rounds.
        rng: draws the rounds.

    Raises:
        ValueError: the two are not of the same rounds.
    """
    if ours.shape != against.shape or not ours.size:
        raise ValueError(f"expected times of the same rounds, got {ours.shape} and {against.shape}")
    draws = (rng.integers(0, len(ours), len(ours)) for _ in range(RESAMPLES))
    low, high = np.percentile([np.median(ours[draw]) / np.median(against[draw]) for draw in draws], INTERVAL)
    return Ratio(float(np.median(ours) / np.median(against)), float(low), float(high))
