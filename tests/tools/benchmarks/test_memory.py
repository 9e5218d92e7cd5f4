"""Peak memory of a call does not include the memory of this process."""

import sys
from functools import partial

import numpy as np
import pytest

from pose.tools.benchmarks._memory import peak_bytes

MB = 10**6


def allocate_and_free(size: int) -> None:
    np.ones(size, dtype=np.uint8)


@pytest.mark.skipif(sys.platform == "win32", reason="needs ru_maxrss and fork")
def test_peak_bytes_includes_freed_memory_and_excludes_this_process():
    held = np.ones(1000 * MB, dtype=np.uint8)

    small, large = (peak_bytes(partial(allocate_and_free, size)) for size in (MB, 300 * MB))

    assert small < len(held)
    assert 290 * MB < large - small < 320 * MB
