"""What a call needs of memory, measured in a process of its own."""

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

KIB = 1 if sys.platform == "darwin" else 1024
"""Of ``ru_maxrss``; macOS gives bytes."""


def peak_bytes(call: Callable[[], object]) -> int:
    """Return how much memory a new process has held at most when it has made a call that can be pickled.

    The process begins small: it is forked by a server that has loaded nothing, and not by this process, whose own
    memory would count. There is none on Windows.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        return pool.submit(_peak_after, call).result()


def _peak_after(call: Callable[[], object]) -> int:
    import resource

    import torch  # both sides have loaded it where a model has just predicted

    torch.set_num_threads(1)
    call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
