"""Interleaved timing: times, order and interval with a fake clock."""

import gc
import math
from collections import Counter

import numpy as np
import pytest

from pose.tools.benchmarks._timing import Budget, quartiles, ratio_of_medians, time_interleaved


class FakeClock:
    """Fake clock that only `call`s advance, each by the next of its given times."""

    def __init__(self):
        self.now, self.order = 100.0, []

    def __call__(self):
        return self.now

    def call(self, name, *seconds):
        times = iter(seconds)

        def work():
            self.order.append(name)
            self.now += next(times)

        return work


def rng(seed=0):
    return np.random.default_rng(seed)


def test_times_of_each_call_are_in_the_order_of_the_rounds():
    clock = FakeClock()
    calls = {"a": clock.call("a", 1, 2, 4), "b": clock.call("b", 8, 16, 32)}

    times = time_interleaved(calls, Budget(rounds=3, warmup=0), rng(), clock)

    assert times["a"].tolist() == [1, 2, 4]
    assert times["b"].tolist() == [8, 16, 32]


def test_warmup_rounds_run_and_are_not_counted():
    clock = FakeClock()

    times = time_interleaved({"a": clock.call("a", 50, 60, 1, 2)}, Budget(rounds=2, warmup=2), rng(), clock)

    assert times["a"].tolist() == [1, 2]


def split_rounds(order, size):
    return [tuple(order[start : start + size]) for start in range(0, len(order), size)]


def test_each_round_runs_every_call_once_in_random_order():
    clock = FakeClock()
    calls = {name: clock.call(name, *[1] * 600) for name in "abc"}

    time_interleaved(calls, Budget(rounds=600, warmup=0), rng(), clock)

    orders = split_rounds(clock.order, 3)
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    counts = Counter(orders)
    assert len(counts) == 6
    assert min(counts.values()) > 60  # 100 expected of each


def test_the_order_depends_only_on_the_generator():
    def order(seed):
        clock = FakeClock()
        calls = {name: clock.call(name, *[1] * 23) for name in "abcd"}
        time_interleaved(calls, Budget(rounds=20), rng(seed), clock)
        return clock.order

    assert order(1) == order(1)
    assert order(1) != order(2)


@pytest.mark.parametrize(
    ("budget", "rounds"),
    [
        (Budget(rounds=4), 4),
        (Budget(seconds=7), 3),  # rounds of 3 s: the one that begins at 6 s is completed
        (Budget(seconds=6), 2),
        (Budget(seconds=1e-9), 1),
        (Budget(seconds=7, rounds=2), 2),
        (Budget(seconds=4, rounds=9), 2),
    ],
)
def test_measurement_ends_at_the_first_limit_after_a_complete_round(budget, rounds):
    clock = FakeClock()
    calls = {"a": clock.call("a", *[1] * 20), "b": clock.call("b", *[2] * 20)}

    times = time_interleaved(calls, budget, rng(), clock)

    assert len(times["a"]) == len(times["b"]) == rounds


@pytest.mark.parametrize(
    "options",
    [{}, {"seconds": 0}, {"seconds": -1}, {"seconds": math.nan}, {"rounds": 0}, {"seconds": 1, "warmup": -1}],
    ids=str,
)
def test_an_invalid_budget_is_refused(options):
    with pytest.raises(ValueError, match="expected seconds above 0 or rounds from 1"):
        Budget(**options)


def test_a_budget_may_limit_both_seconds_and_rounds():
    assert Budget(seconds=5, rounds=5).allows(4, 4.9)


def test_no_calls_are_refused():
    with pytest.raises(ValueError, match="at least one call"):
        time_interleaved({}, Budget(rounds=1), rng())


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_off_during_a_call_and_restored_afterwards(enabled):
    def fail():
        assert not gc.isenabled()
        raise OSError

    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(OSError):
            time_interleaved({"a": fail}, Budget(rounds=1), rng())
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


class Cycle:
    alive = 0

    def __init__(self):
        self.itself = self
        Cycle.alive += 1

    def __del__(self):
        Cycle.alive -= 1


def test_garbage_of_a_call_is_freed_before_the_next_call():
    alive = []

    def work():
        alive.append(Cycle.alive)
        Cycle()

    time_interleaved({"a": work}, Budget(rounds=5), rng())

    assert set(alive) == {0}


def test_the_default_clock_measures_seconds_of_processor_time():
    # A lower bound only: the call itself takes some time, too.
    import time

    def work():
        end = time.process_time() + 2e-3
        while time.process_time() < end:
            pass

    times = time_interleaved({"a": work}, Budget(rounds=3, warmup=0), rng())

    assert (times["a"] >= 2e-3).all()


def test_quartiles_of_known_values():
    assert quartiles(np.array([5.0, 1, 3, 2, 4])) == (2, 3, 4)
    assert quartiles(np.array([7.0])) == (7, 7, 7)


def test_the_ratio_is_the_ratio_of_the_medians():
    ours, against = np.array([3.0, 30, 4, 5, 6]), np.array([2.0, 1, 2, 50, 4])

    ratio = ratio_of_medians(ours, against, rng())

    assert ratio.value == 5 / 2
    assert ratio.low <= ratio.value <= ratio.high


def test_slow_rounds_do_not_widen_the_interval():
    against = rng().lognormal(0, 1, 50)

    assert ratio_of_medians(2 * against, against, rng()) == (2, 2, 2)
    assert ratio_of_medians(2 * rng(1).permutation(against), against, rng()).high > 2.1


def test_the_interval_covers_the_true_ratio_at_its_nominal_rate():
    generator, true_ratio, trials = rng(3), 1.3, 60
    covered = 0
    for _ in range(trials):
        ours, against = true_ratio * generator.lognormal(0, 0.2, 40), generator.lognormal(0, 0.2, 40)
        ratio = ratio_of_medians(ours, against, generator)
        covered += ratio.low <= true_ratio <= ratio.high
        assert ratio.high - ratio.low < 0.5
    assert covered >= 0.85 * trials


@pytest.mark.parametrize(("ours", "against"), [([1.0, 2.0], [1.0]), ([], [])])
def test_times_of_different_rounds_are_refused(ours, against):
    with pytest.raises(ValueError, match="same rounds"):
        ratio_of_medians(np.array(ours), np.array(against), rng())
