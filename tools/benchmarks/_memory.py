"""Peak memory of a call, measured in a process of its own."""

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

KIB = 1 if sys.platform == "darwin" else 1024
"""Bytes per unit of ``ru_maxrss``: KiB, but bytes on macOS."""


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
