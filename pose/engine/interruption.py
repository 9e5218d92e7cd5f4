"""Ctrl-C and SIGTERM during training: the step is finished and saved before the run ends."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

from pose.cli import Terminated
from pose.engine.distributed import DistContext

logger = logging.getLogger(__name__)


class StopSignals:
    """Context manager that records SIGINT and SIGTERM instead of interrupting; a second SIGINT interrupts at once.

    At the end of the block a recorded signal interrupts. In threads other than the main one it does nothing.

    Attributes:
        received: the first signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._handlers: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {name: signal.signal(name, self._record) for name in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, handler in self._handlers.items():
            signal.signal(name, handler)  # type: ignore[arg-type]
        if kind is None and self.received is not None:
            raise self.interruption()

    def _record(self, number: int, frame: FrameType | None) -> None:
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number)

    def interruption(self) -> KeyboardInterrupt:
        """Return the exception of the recorded signal."""
        return Terminated() if self.received == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def log_interruption(last: Path, dist: DistContext) -> Iterator[None]:
    """Context manager: log how to continue a run that is interrupted in the block, whose checkpoint is ``last``."""
    try:
        yield
    except KeyboardInterrupt as error:
        if dist.is_main:
            name = "SIGTERM" if isinstance(error, Terminated) else "Ctrl-C"
            advice = f"continue with --resume {last}" if last.exists() else "no checkpoint was written yet"
            logger.info("stopped by %s; %s", name, advice)
        raise
