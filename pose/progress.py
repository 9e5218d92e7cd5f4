"""Progress display: a tqdm bar on a terminal, otherwise a log line every 30 seconds."""

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

logger = logging.getLogger(__name__)

LINE_SECONDS = 30.0
"""Seconds between log lines."""


class ProgressLine:
    """Progress over ``total`` units (None: unknown), with named values such as the loss. Use it as a context manager.

    Args:
        description: what is counted, such as ``epoch 3``.
        total: number of units, None if unknown.
        unit: name of the units, in the plural.
        initial: units done before a resume, which the estimate of the time left excludes.
    """

    def __init__(self, description: str, total: int | None, unit: str, initial: int = 0) -> None:
        self.description, self.total, self.unit, self.count = description, total, unit, initial
        self._bar = (
            tqdm(desc=description, total=total, unit=unit, initial=initial, dynamic_ncols=True, leave=False)
            if sys.stderr.isatty()
            else None
        )
        self._start = self._last = time.monotonic()
        self._initial = initial

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, count: int = 1, **values: str) -> None:
        """Add ``count`` units and show ``values`` by name."""
        self.count += count
        if self._bar is not None:
            self._bar.set_postfix(values, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last >= LINE_SECONDS:
            self._last = time.monotonic()
            logger.info("%s", self._line(values))

    def _line(self, values: dict[str, str]) -> str:
        shown = " ".join(f"{name} {value}" for name, value in values.items())
        if self.total is None:
            return f"{self.description}: {self.count} {self.unit}  {shown}".rstrip()
        left = (self._last - self._start) / max(self.count - self._initial, 1) * (self.total - self.count)
        return f"{self.description}: {self.count}/{self.total} {self.unit}, {left:.0f} s left  {shown}".rstrip()


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it: ``45 s``, ``12 min``, ``3.5 h``, ``2.1 days``."""
    for limit, size, unit, digits in ((100, 1, "s", 0), (100 * 60, 60, "min", 0), (48 * 3600, 3600, "h", 1)):
        if seconds < limit:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / 86400:.1f} days"
