"""Peak memory and processor time of a call, measured in a process of its own."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

KIB = 1 if sys.platform == "darwin" else 1024
"""Bytes per unit of ``ru_maxrss``: KiB, but bytes on macOS."""


class Cost(NamedTuple):
    """Processor time in seconds, and peak memory in bytes above that of the process before the call."""

    seconds: float
    peak_bytes: int


def cost(call: Callable[[], object]) -> Cost:
    """Return the cost of one call in a new process, which has imported the module of the call; see `peak_bytes`."""
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        return pool.submit(_cost_of, call).result()


def _cost_of(call: Callable[[], object]) -> Cost:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    call()
    seconds = time.process_time() - start
    return Cost(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * KIB)


def peak_bytes(call: Callable[[], object]) -> int:
    """Return the peak memory in bytes of a new process that makes one call, which must be picklable.

    The process is forked from a fork server that has loaded nothing, so that the memory of this process does not count.
    Windows has no fork server.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        return pool.submit(_peak_after, call).result()


def _peak_after(call: Callable[[], object]) -> int:
    import resource

    import torch  # evaluation follows prediction, so either side has torch loaded

    torch.set_num_threads(1)
    call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
