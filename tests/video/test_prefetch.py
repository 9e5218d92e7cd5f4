"""Prefetching and background writing: order, bounds, exceptions, and no thread left running."""

import threading
import time
from collections.abc import Callable, Iterator
from threading import Event

import pytest

from pose.video.prefetch import background_writer, prefetch

WAIT_S = 30
"""Upper limit for any wait; a test that reaches it fails."""


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
def test_prefetch_yields_all_items_in_order(count, length):
    assert list(prefetch(range(length), count)) == list(range(length))


def test_prefetch_yields_none_items():
    assert list(prefetch([None, None], 1)) == [None, None]


def test_prefetch_fetches_at_most_count_items_ahead_in_another_thread():
    fetched, threads = [], set()

    def items():
        for index in range(100):
            fetched.append(index)
            threads.add(threading.get_ident())
            yield index

    prefetched = prefetch(items(), 3)
    assert next(prefetched) == 0
    wait_for(lambda: len(fetched) == 1 + 3)
    time.sleep(0.05)
    assert fetched == [0, 1, 2, 3]
    prefetched.close()
    assert threads.isdisjoint({threading.get_ident()})


def test_prefetch_raises_an_exception_at_the_position_of_its_item():
    def items():
        yield from range(3)
        raise OSError("damaged")

    received = []
    with pytest.raises(OSError, match="damaged"):
        for item in prefetch(items(), 2):
            received.append(item)
    assert received == [0, 1, 2]


def test_prefetch_fetches_nothing_after_it_is_closed():
    started, proceed, fetched = Event(), Event(), []

    def items():
        yield "first"
        started.set()
        assert proceed.wait(WAIT_S)
        fetched.extend(["second"])
        yield "second"
        fetched.extend(["third"])

    prefetched = prefetch(items(), 5)
    assert next(prefetched) == "first"
    assert started.wait(WAIT_S)
    threading.Timer(0.05, proceed.set).start()
    prefetched.close()
    assert fetched == ["second"]  # had already started


def test_background_writer_makes_all_calls_in_order_before_it_ends():
    written = []
    with background_writer(lambda a, b=0: written.append((a, b)), 3) as write:
        for index in range(10):
            write(index, b=-index)
    assert written == [(index, -index) for index in range(10)]


def test_background_writer_queues_at_most_count_calls_in_another_thread():
    proceed, threads, submitted = Event(), [], []

    def slow(_index):
        threads.append(threading.get_ident())
        assert proceed.wait(WAIT_S)

    def submit_all(write):
        for index in range(6):
            write(index)
            submitted.append(index)

    with background_writer(slow, 2) as write:
        caller = threading.Thread(target=submit_all, args=(write,))
        caller.start()
        wait_for(lambda: len(submitted) == 2)
        time.sleep(0.05)
        assert submitted == [0, 1]
        proceed.set()
        caller.join(WAIT_S)
    assert len(threads) == 6
    assert threads[0] != threading.get_ident()


def test_background_writer_raises_an_exception_at_the_end_at_the_latest():
    def write(index):
        if index == 2:
            raise OSError("disk full")

    for calls in (3, 50):
        submitted = 0
        with pytest.raises(OSError, match="disk full"), background_writer(write, 4) as submit:
            for index in range(calls):
                submit(index)
                submitted += 1
        assert submitted <= 2 + 4 + 1


def test_background_writer_drops_queued_calls_if_the_block_raises():
    started, proceed, written = Event(), Event(), []

    def write(index):
        started.set()
        assert proceed.wait(WAIT_S)
        written.append(index)

    with pytest.raises(KeyboardInterrupt), background_writer(write, 8) as submit:
        for index in range(5):
            submit(index)
        assert started.wait(WAIT_S)
        threading.Timer(0.05, proceed.set).start()
        raise KeyboardInterrupt
    assert written == [0]
