"""Interleaved timing of several calls, and the ratio of their medians with a bootstrap interval.

Each round times every call once, in a newly drawn order, so that other load on the machine affects all calls alike.
"""

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pose.geometry import Array
from pose.json_file import paused_garbage_collection

Seconds = Array
"""(rounds,) times of one call, in the order of the rounds."""

RESAMPLES = 1000
"""Bootstrap samples."""
INTERVAL = (2.5, 97.5)
"""Percentiles of the 95% interval."""


@dataclass(frozen=True)
class Budget:
    """Limits of a measurement; it ends at the first limit, after a complete round.

    Attributes:
        seconds: no round begins after this time.
        rounds: maximum number of rounds; None: no limit.
        warmup: rounds before the measurement, which are not counted.
    """

    seconds: float = math.inf
    rounds: int | None = None
    warmup: int = 3

    def __post_init__(self) -> None:
        unlimited = self.rounds is None and math.isinf(self.seconds)
        if unlimited or not (self.seconds > 0 and (self.rounds is None or self.rounds >= 1) and self.warmup >= 0):
            raise ValueError(f"expected seconds above 0 or rounds from 1, and warmup from 0, got {self}")

    def allows(self, rounds: int, seconds: float) -> bool:
        """Return whether another round may begin after ``rounds`` and ``seconds``; the first round always may."""
        return not rounds or ((self.rounds is None or rounds < self.rounds) and seconds < self.seconds)


class Quartiles(NamedTuple):
    """Lower quartile, median and upper quartile."""

    low: float
    median: float
    high: float


class Ratio(NamedTuple):
    """Ratio of medians with its 95% interval."""

    value: float
    low: float
    high: float


def time_interleaved(
    calls: Mapping[str, Callable[[], object]],
    budget: Budget,
    rng: np.random.Generator,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Seconds]:
    """Time calls interleaved; returns the (rounds,) seconds of each call, where equal indices are of the same round.

    Garbage collection is off while a call is timed; the garbage of a call is freed before the next one.

    Args:
        calls: by name.
        budget: of all calls together.
        rng: draws the order of the calls in each round.
        clock: returns seconds from any origin; the default is the processor time of this process, which other processes
            on the same core do not change.

    Raises:
        ValueError: there are no calls.
    """
    if not calls:
        raise ValueError("expected at least one call to time, got none")
    rounds: list[dict[str, float]] = []
    gc.collect()
    with paused_garbage_collection():
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
        gc.collect(0)  # youngest generation only: a full collection takes longer than most calls and empties the caches
        start = clock()
        call()
        times[names[index]] = clock() - start
    return times


def quartiles(times: Seconds) -> Quartiles:
    """Return the quartiles of times, in the unit of the times."""
    return Quartiles(*np.percentile(times, (25, 50, 75)).tolist())


def ratio_of_medians(ours: Seconds, against: Seconds, rng: np.random.Generator) -> Ratio:
    """Return median(ours) / median(against), with a bootstrap interval over rounds.

    Whole rounds are resampled, because load on the machine slows down both calls of a round.

    Args:
        ours: (rounds,) times from `time_interleaved`.
        against: (rounds,) times of the same rounds.
        rng: draws the rounds.

    Raises:
        ValueError: the shapes differ or there are no rounds.
    """
    if ours.shape != against.shape or not ours.size:
        raise ValueError(f"expected times of the same rounds, got {ours.shape} and {against.shape}")
    samples = (rng.integers(0, len(ours), len(ours)) for _ in range(RESAMPLES))
    ratios = [np.median(ours[rounds]) / np.median(against[rounds]) for rounds in samples]
    low, high = np.percentile(ratios, INTERVAL)
    return Ratio(float(np.median(ours) / np.median(against)), float(low), float(high))
