"""Settings of the host that CPU training and inference depend on for their speed."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc, malloc.h
KEEP_BYTES = 1 << 30


def let_threads_sleep() -> None:
    """Let OpenMP's threads sleep soon while they wait for each other; call it before torch is imported.

    By default they spin for milliseconds, which on cores that have other work to do makes a small net ten times slower.
    Never to spin makes it three times slower on idle ones. A user's own GOMP_SPINCOUNT is kept.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 1 GiB instead of handing them back to the kernel.

    By default every activation map above 32 MB, and the top of the heap, is returned when freed, and each step takes
    a page fault for every 4 KB of it again. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEEP_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
