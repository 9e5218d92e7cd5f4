"""Peak memory is that of the call, whatever this process holds."""

import sys
from functools import partial

import numpy as np
import pytest

from pose.tools.benchmarks._memory import peak_bytes

MB = 10**6


def hold_for_a_while(size: int) -> None:
    np.ones(size, dtype=np.uint8)


@pytest.mark.skipif(sys.platform == "win32", reason="needs ru_maxrss and fork")
def test_what_a_call_held_for_a_while_is_measured_and_what_this_process_holds_is_not():
    held = np.ones(1000 * MB, dtype=np.uint8)

    small, large = (peak_bytes(partial(hold_for_a_while, size)) for size in (MB, 300 * MB))

    assert small < len(held)
    assert 290 * MB < large - small < 320 * MB
