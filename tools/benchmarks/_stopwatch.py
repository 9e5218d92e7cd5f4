"""A stopwatch for the stages of something that runs as a whole."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Stopwatch:
    """Adds up the seconds of stages, each without those of stages within it. It is for one thread.

    Args:
        clock: seconds from any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._seconds: dict[str, float] = {}
        self._within = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        beside, self._within = self._within, 0.0
        start = self._clock()
        try:
            yield
        finally:
            whole = self._clock() - start
            self._seconds[name] = self._seconds.get(name, 0.0) + whole - self._within
            self._within = beside + whole

    def timed(self, name: str, call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """Return a function that does the same, as a stage."""

        def watched(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            with self.stage(name):
                return call(*args, **kwargs)

        return watched

    def reset(self) -> dict[str, float]:
        """Return the seconds of every stage by its name, and begin anew."""
        seconds, self._seconds = self._seconds, {}
        return seconds
