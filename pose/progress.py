"""Progress a person can read: a tqdm bar on a terminal, a plain line every half minute anywhere else."""

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

logger = logging.getLogger(__name__)

LINE_SECONDS = 30.0


class ProgressLine:
    """Counts ``total`` units (None: unknown) with figures beside the count; use it as a context manager."""

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

    def advance(self, count: int = 1, **figures: str) -> None:
        """Count on, and show the figures by their names."""
        self.count += count
        if self._bar is not None:
            self._bar.set_postfix(figures, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last >= LINE_SECONDS:
            self._last = time.monotonic()
            logger.info("%s", self._line(figures))

    def _line(self, figures: dict[str, str]) -> str:
        shown = " ".join(f"{name} {value}" for name, value in figures.items())
        if self.total is None:
            return f"{self.description}: {self.count} {self.unit}  {shown}".rstrip()
        left = (self._last - self._start) / max(self.count - self._initial, 1) * (self.total - self.count)
        return f"{self.description}: {self.count}/{self.total} {self.unit}, {left:.0f} s left  {shown}".rstrip()
