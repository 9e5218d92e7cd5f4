"""Stopwatch for nested stages: each stage's time excludes the stages inside it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Stopwatch:
    """Accumulates the seconds of each stage, without those of nested stages. Not thread-safe.

    Args:
        clock: returns seconds from any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._seconds: dict[str, float] = {}
        self._nested = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block as a stage."""
        outer_nested, self._nested = self._nested, 0.0
        start = self._clock()
        try:
            yield
        finally:
            elapsed = self._clock() - start
            self._seconds[name] = self._seconds.get(name, 0.0) + elapsed - self._nested
            self._nested = outer_nested + elapsed

    def timed(self, name: str, call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """Return a function whose calls are timed as a stage."""

        def timed_call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            with self.stage(name):
                return call(*args, **kwargs)

        return timed_call

    def reset(self) -> dict[str, float]:
        """Return the seconds of each stage by name, and set all to zero."""
        seconds, self._seconds = self._seconds, {}
        return seconds
