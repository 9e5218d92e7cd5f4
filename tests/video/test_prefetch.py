"""Threads beside the caller's: order, bounds, errors in their place, and nothing left running."""

import threading
import time
from collections.abc import Callable, Iterator
from threading import Event

import pytest

from pose.video.prefetch import background_writer, prefetch

WAIT_S = 30
"""Longer than any thread here may take; a test that comes to it fails."""


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    wait_for(lambda: threading.active_count() == before)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("count", [1, 3, 100])
@pytest.mark.parametrize("length", [0, 1, 10])
def test_items_come_all_and_in_order(count, length):
    assert list(prefetch(range(length), count)) == list(range(length))


def test_none_is_an_item_like_any_other():
    assert list(prefetch([None, None], 1)) == [None, None]


def test_items_are_taken_ahead_in_another_thread_and_no_more_than_told():
    taken, threads = [], set()

    def items():
        for index in range(100):
            taken.append(index)
            threads.add(threading.get_ident())
            yield index

    ahead = prefetch(items(), 3)
    assert next(ahead) == 0
    wait_for(lambda: len(taken) == 1 + 3)
    time.sleep(0.05)
    assert taken == [0, 1, 2, 3]
    ahead.close()
    assert threads.isdisjoint({threading.get_ident()})


def test_an_error_is_raised_in_its_place():
    def items():
        yield from range(3)
        raise OSError("damaged")

    found = []
    with pytest.raises(OSError, match="damaged"):
        for item in prefetch(items(), 2):
            found.append(item)
    assert found == [0, 1, 2]


def test_nothing_is_taken_after_the_end_of_who_stops_early():
    began, may_go, taken = Event(), Event(), []

    def items():
        yield "first"
        began.set()
        assert may_go.wait(WAIT_S)
        taken.extend(["second"])
        yield "second"
        taken.extend(["third"])

    ahead = prefetch(items(), 5)
    assert next(ahead) == "first"
    assert began.wait(WAIT_S)
    threading.Timer(0.05, may_go.set).start()
    ahead.close()
    assert taken == ["second"]  # was under way


def test_calls_happen_all_in_order_and_before_the_end():
    written = []
    with background_writer(lambda a, b=0: written.append((a, b)), 3) as write:
        for index in range(10):
            write(index, b=-index)
    assert written == [(index, -index) for index in range(10)]


def test_calls_are_behind_in_another_thread_and_no_more_than_told():
    may_go, threads, called = Event(), [], []

    def slow(_index):
        threads.append(threading.get_ident())
        assert may_go.wait(WAIT_S)

    def call_all(write):
        for index in range(6):
            write(index)
            called.append(index)

    with background_writer(slow, 2) as write:
        caller = threading.Thread(target=call_all, args=(write,))
        caller.start()
        wait_for(lambda: len(called) == 2)
        time.sleep(0.05)
        assert called == [0, 1]
        may_go.set()
        caller.join(WAIT_S)
    assert len(threads) == 6
    assert threads[0] != threading.get_ident()


def test_an_error_of_a_call_reaches_the_caller_at_the_latest_at_the_end():
    def write(index):
        if index == 2:
            raise OSError("disk full")

    for calls in (3, 50):
        made = 0
        with pytest.raises(OSError, match="disk full"), background_writer(write, 4) as later:
            for index in range(calls):
                later(index)
                made += 1
        assert made <= 2 + 4 + 1


def test_calls_that_have_not_begun_are_dropped_after_an_error_of_the_caller():
    began, may_go, written = Event(), Event(), []

    def write(index):
        began.set()
        assert may_go.wait(WAIT_S)
        written.append(index)

    with pytest.raises(KeyboardInterrupt), background_writer(write, 8) as later:
        for index in range(5):
            later(index)
        assert began.wait(WAIT_S)
        threading.Timer(0.05, may_go.set).start()
        raise KeyboardInterrupt
    assert written == [0]
