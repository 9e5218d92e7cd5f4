"""Log of a training run: ``metrics.jsonl``, TensorBoard events, progress line and log file."""

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pose.engine.state import Progress
from pose.progress import ProgressLine

RECORD_SECONDS = 10.0
"""Time between two rows of training metrics; one more row ends each epoch."""


class MetricsLog:
    """Writer of ``metrics.jsonl`` and TensorBoard events; a context manager.

    Args:
        folder: existing run folder.
        active: whether to write; true on rank 0 only.
    """

    def __init__(self, folder: Path, active: bool) -> None:
        self._file = self._board = None
        if active:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and only rank 0 needs it

            self._file = (folder / "metrics.jsonl").open("a", encoding="utf-8")
            self._board = SummaryWriter(str(folder))

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, kind: str, samples: int, metrics: Mapping[str, float]) -> None:
        """Write one row.

        Args:
            kind: ``train`` or ``validation``.
            samples: training samples seen so far, the horizontal axis of every curve.
            metrics: values by name.
        """
        if self._file is None or self._board is None:
            return
        self._file.write(json.dumps({"kind": kind, "samples": samples, **metrics}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._board.add_scalar(f"{kind}/{name}", value, samples)

    def close(self) -> None:
        """Close both files."""
        if self._file is not None and self._board is not None:
            self._file.close()
            self._board.close()


class Meter:
    """Training metrics since the last `read`: mean loss, images per second, fraction of time spent waiting for data.

    Args:
        samples: number of training samples seen before.
    """

    def __init__(self, samples: int) -> None:
        self._losses: list[float] = []
        self._rate, self._waited = 0.0, 0.0
        self._samples = self._first_sample = samples
        self._start = self._last = time.monotonic()

    def add(self, loss: float | None, learning_rate: float, wait_seconds: float, samples: int) -> float:
        """Add one step and return the seconds since the previous step.

        Args:
            loss: mean loss since the last check; None if it was not checked.
            learning_rate: learning rate of the step.
            wait_seconds: time spent waiting for data.
            samples: total number of training samples seen.
        """
        self._last, before = time.monotonic(), self._last
        self._rate, self._samples = learning_rate, samples
        self._waited += wait_seconds
        if loss is not None:
            self._losses.append(loss)
        return self._last - before

    @property
    def due(self) -> bool:
        """Whether `RECORD_SECONDS` have passed since the last `read`."""
        return self._last - self._start >= RECORD_SECONDS

    def metrics(self) -> dict[str, float]:
        """Return the metrics since the last `read`."""
        seconds = max(self._last - self._start, 1e-9)
        loss = {"loss": sum(self._losses) / len(self._losses)} if self._losses else {}
        return loss | {
            "learning_rate": self._rate,
            "images_per_second": (self._samples - self._first_sample) / seconds,
            "data_wait_share": self._waited / seconds,
        }

    def read(self) -> dict[str, float]:
        """Return the metrics and reset them."""
        metrics = self.metrics()
        self._losses.clear()
        self._waited, self._first_sample, self._start = 0.0, self._samples, self._last
        return metrics

    def summary(self) -> dict[str, str]:
        """Return the metrics formatted for a progress line."""
        metrics = self.metrics()
        return {
            "loss": f"{metrics.get('loss', math.nan):.4f}",
            "lr": f"{metrics['learning_rate']:.1e}",
            "images/s": f"{metrics['images_per_second']:.1f}",
            "wait": f"{metrics['data_wait_share']:.0%}",
        }


class EpochLog:
    """Progress line and ``train`` rows of one epoch; a context manager.

    Args:
        metrics_log: receives the rows.
        progress: training progress; its ``seconds`` are updated.
        epochs: number of epochs of the run.
        steps: number of steps of the epoch.
        temperature: softmax temperature tau of the epoch.
    """

    def __init__(
        self, metrics_log: MetricsLog, progress: Progress, epochs: int, steps: int, temperature: float
    ) -> None:
        self._metrics_log, self._progress = metrics_log, progress
        self._steps, self._temperature = steps, temperature
        self._line = ProgressLine(f"epoch {progress.epoch + 1}/{epochs}", steps, "steps", progress.step)
        self._meter, self._wait_seconds = Meter(progress.samples), 0.0

    def __enter__(self) -> "EpochLog":
        self._line.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._line.__exit__(*error)

    def next_batch(self, batches: Iterator[Any]) -> Any:
        """Return the next batch and measure the time spent waiting for it."""
        start = time.perf_counter()
        batch = next(batches)
        self._wait_seconds += time.perf_counter() - start
        return batch

    def step(self, loss: float | None, learning_rate: float) -> None:
        """Log a step; call it after ``progress`` was advanced. Arguments as for `Meter.add`."""
        progress = self._progress
        progress.seconds += self._meter.add(loss, learning_rate, self._wait_seconds, progress.samples)
        self._wait_seconds = 0.0
        self._line.advance(1, **self._meter.summary(), tau=f"{self._temperature:g}")
        if self._meter.due or progress.step == self._steps:
            metrics = self._meter.read()
            metrics |= {"epoch": progress.epoch + progress.step / self._steps, "temperature": self._temperature}
            self._metrics_log.write("train", progress.samples, metrics | {"seconds": progress.seconds})


def start_logging(folder: Path | None) -> None:
    """Log to stderr and to ``train.log`` in a folder; without a folder (testing, ranks other than 0) warnings only."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(folder / "train.log", encoding="utf-8"))
    level = logging.INFO if folder is not None else logging.WARNING
    logging.basicConfig(
        level=level, handlers=handlers, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )
