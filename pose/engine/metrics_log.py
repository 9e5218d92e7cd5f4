"""Log of a training run: ``metrics.jsonl``, TensorBoard events, progress line and log file."""

import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from pose.engine.events import EventWriter
from pose.engine.state import Progress
from pose.errors import MediaError
from pose.files import replacing, to_json, writing
from pose.images import Image
from pose.progress import ProgressLine, duration

logger = logging.getLogger(__name__)

RECORD_SECONDS = 10.0
"""Time between two rows of training metrics; one more row ends each epoch."""
JPEG_QUALITY = 88


@dataclass(frozen=True)
class Validation:
    """Result of a validation.

    Attributes:
        score: selects the best checkpoint; higher is better.
        metrics: by name, for the log.
        summary: one line for the log.
        images: by name, (H, W, 3) uint8 BGR, for the run folder and TensorBoard.
    """

    score: float
    metrics: Mapping[str, float]
    summary: str
    images: Mapping[str, Image] = field(default_factory=dict)


class MetricsLog:
    """Writer of ``metrics.jsonl`` and TensorBoard events; a context manager.

    Args:
        folder: existing run folder.
        active: whether to write; true on rank 0 only.

    Raises:
        MediaError: a file cannot be written; from all methods.
    """

    def __init__(self, folder: Path, active: bool) -> None:
        self._folder, self._active = folder, active
        self._rows = folder / "metrics.jsonl"
        if active:
            _remove_partial_row(self._rows)
            self._board = EventWriter(folder)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, kind: str, samples: int, metrics: Mapping[str, float]) -> None:
        """Write one row.

        Args:
            kind: ``train``, ``epoch`` or ``validation``.
            samples: training samples seen so far, the horizontal axis of every curve.
            metrics: values by name; a value that is not finite is written as null.
        """
        if not self._active:
            return
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        row = to_json({"kind": kind, "samples": samples, **values}, self._rows) + "\n"
        with writing(self._rows), self._rows.open("a", encoding="utf-8") as file:
            file.write(row)
        self._board.write(
            samples, [{"tag": f"{kind}/{name}", "simple_value": value} for name, value in metrics.items()]
        )

    def write_images(self, samples: int, images: Mapping[str, Image]) -> None:
        """Write images (H, W, 3) uint8 BGR by name: ``NAME.jpg`` in the run folder, and the same JPEG to TensorBoard.

        Args:
            samples: training samples seen so far.
            images: by name.
        """
        if not self._active:
            return
        for name, image in images.items():
            _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            path, jpeg = self._folder / f"{name}.jpg", encoded.tobytes()
            with replacing(path) as temporary, writing(path):
                temporary.write_bytes(jpeg)
            height, width = image.shape[:2]
            fields = {"height": height, "width": width, "colorspace": 3, "encoded_image_string": jpeg}
            self._board.write(samples, [{"tag": name, "image": fields}])

    def close(self) -> None:
        """Close the events."""
        if self._active:
            self._board.close()


def _remove_partial_row(path: Path) -> None:
    """Cut off the last row of a ``metrics.jsonl`` if it is incomplete: the process was killed, or the disk was full."""
    with writing(path), path.open("ab+") as file:
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


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


class RunClock:
    """Estimates the time until the end of a run from the wall-clock time since its start, validations included.

    Args:
        epochs: number of epochs of the run.
        done: epochs done before, with a fraction; a resumed run starts with them.
    """

    def __init__(self, epochs: int, done: float) -> None:
        self.epochs = epochs
        self._first, self._start = done, time.monotonic()

    def seconds_left(self, done: float) -> float:
        """Return the estimated time until the last epoch; ``done`` epochs are done, with a fraction."""
        elapsed = time.monotonic() - self._start
        return elapsed / max(done - self._first, 1e-9) * (self.epochs - done)


class EpochLog:
    """Progress line, ``train`` rows and ``epoch`` row of one epoch; a context manager.

    Args:
        metrics_log: receives the rows.
        progress: training progress; its ``seconds`` are updated.
        clock: estimates the time left of the whole run.
        steps: number of steps of the epoch.
        temperature: softmax temperature tau of the epoch.
    """

    def __init__(
        self, metrics_log: MetricsLog, progress: Progress, clock: RunClock, steps: int, temperature: float
    ) -> None:
        self._metrics_log, self._progress, self._clock = metrics_log, progress, clock
        self._steps, self._temperature = steps, temperature
        self._line = ProgressLine(f"epoch {progress.epoch + 1}/{clock.epochs}", steps, "steps", progress.step)
        self._losses: list[float] = []
        self._first_second = progress.seconds
        self._meter, self._wait_seconds = Meter(progress.samples), 0.0

    def __enter__(self) -> "EpochLog":
        self._line.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._line.__exit__(*error)
        if error[0] is None and self._losses:
            progress, loss = self._progress, sum(self._losses) / len(self._losses)
            epoch, seconds = progress.epoch + 1, progress.seconds - self._first_second
            self._metrics_log.write("epoch", progress.samples, {"epoch": epoch, "loss": loss, "seconds": seconds})
            left = self._clock.seconds_left(epoch)
            end = f", the run has about {duration(left)} left" if left else ""
            logger.info("%s: loss %.4g, %s%s", self._line.description, loss, duration(seconds), end)

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
        if loss is not None:
            self._losses.append(loss)
        done = progress.epoch + progress.step / self._steps
        left = duration(self._clock.seconds_left(done))
        self._line.advance(1, **self._meter.summary(), tau=f"{self._temperature:g}", run=f"{left} left")
        if self._meter.due or progress.step == self._steps:
            metrics = self._meter.read()
            metrics |= {"epoch": done, "temperature": self._temperature}
            self._metrics_log.write("train", progress.samples, metrics | {"seconds": progress.seconds})


def start_logging(folder: Path | None) -> None:
    """Log to stderr and to ``train.log`` in a folder; without a folder (testing, ranks other than 0) warnings only.

    Raises:
        MediaError: ``train.log`` cannot be written; then also from each call that logs.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder / "train.log"):
            handlers.append(_LogFile(folder / "train.log", encoding="utf-8"))
    level = logging.INFO if folder is not None else logging.WARNING
    logging.basicConfig(
        level=level, handlers=handlers, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )


class _LogFile(logging.FileHandler):
    """Log file that raises a `MediaError` where `logging.FileHandler` prints a traceback and goes on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (name of the base class)
        """Raise the error of the record that was not written."""
        error = sys.exc_info()[1]
        raise MediaError(f"{self.baseFilename}: cannot write it ({error}); free disk space") from None
