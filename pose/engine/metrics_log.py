"""What a run writes about itself: figures between two rows, ``metrics.jsonl`` and TensorBoard."""

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose.errors import DataError
from pose.files import newest_below
from pose.geometry import Array

if TYPE_CHECKING:
    from pose.engine.trainer import StepReport

RECORD_SECONDS = 10.0
"""A row of training figures is written this often, and at the end of each epoch."""


class RunLog:
    """Writes ``metrics.jsonl`` and TensorBoard events; on other processes than the first it writes nothing."""

    def __init__(self, folder: Path, active: bool) -> None:
        self._file = self._board = None
        if active:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and only the first process needs it

            self._file = (folder / "metrics.jsonl").open("a", encoding="utf-8")
            self._board = SummaryWriter(str(folder))

    def write(self, kind: str, samples: int, figures: Mapping[str, float]) -> None:
        """Write one row; ``samples`` is the horizontal axis of every curve."""
        if self._file is None or self._board is None:
            return
        self._file.write(json.dumps({"kind": kind, "samples": samples, **figures}) + "\n")
        self._file.flush()
        for name, value in figures.items():
            self._board.add_scalar(f"{kind}/{name}", value, samples)

    def close(self) -> None:
        """Close both."""
        if self._file is not None and self._board is not None:
            self._file.close()
            self._board.close()


class Meter:
    """Figures of the steps since they were last read: mean loss, speed, share of time spent waiting for data."""

    def __init__(self, samples: int) -> None:
        self._losses: list[float] = []
        self._rate, self._waited = 0.0, 0.0
        self._samples = self._first_sample = samples
        self._start = self._last = time.monotonic()

    def add(self, report: "StepReport", samples: int) -> float:
        """Count one step, ``samples`` seen in all, and return the seconds since the one before."""
        self._last, before = time.monotonic(), self._last
        self._rate, self._samples = report.learning_rate, samples
        self._waited += report.wait_seconds
        if report.loss is not None:
            self._losses.append(report.loss)
        return self._last - before

    @property
    def due(self) -> bool:
        """Whether it is time to read."""
        return self._last - self._start >= RECORD_SECONDS

    def figures(self) -> dict[str, float]:
        """Return the figures since they were last read."""
        seconds = max(self._last - self._start, 1e-9)
        loss = {"loss": sum(self._losses) / len(self._losses)} if self._losses else {}
        return loss | {
            "learning_rate": self._rate,
            "images_per_second": (self._samples - self._first_sample) / seconds,
            "data_wait_share": self._waited / seconds,
        }

    def read(self) -> dict[str, float]:
        """Return the figures and begin anew."""
        figures = self.figures()
        self._losses.clear()
        self._waited, self._first_sample, self._start = 0.0, self._samples, self._last
        return figures

    def shown(self) -> dict[str, str]:
        """Return the figures for a progress line."""
        figures = self.figures()
        return {
            "loss": f"{figures.get('loss', math.nan):.4f}",
            "lr": f"{figures['learning_rate']:.1e}",
            "images/s": f"{figures['images_per_second']:.1f}",
            "wait": f"{figures['data_wait_share']:.0%}",
        }


def start_logging(folder: Path | None) -> None:
    """Log to stderr and the folder's ``train.log``; None: warnings only (processes after the first)."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(folder / "train.log", encoding="utf-8"))
    level = logging.INFO if folder is not None else logging.WARNING
    logging.basicConfig(
        level=level, handlers=handlers, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )


LayerRow = Mapping[str, Any]
"""Attention of one layer: an entry of ``layers`` in inspection.json, with the keys in `LAYER_KEYS`."""

LAYER_KEYS = frozenset({"name", "kind", "stride", "entropy_mean", "entropy_std", "variation"})

VALIDATION_METRICS = ("AP", "top1")
"""Keys of the plotted metric in a validation row: of a pose model, of a classifier."""


@dataclass(frozen=True)
class Curves:
    """Learning curves of one run.

    Attributes:
        samples: (T,) samples seen so far, ascending.
        losses: (T,) mean training loss since the row before.
        validation_samples: (V,) samples seen before each validation, ascending.
        validation_values: (V,) validation metric in percent, 0 to 100.
        metric: which metric it is, one of `VALIDATION_METRICS`.
    """

    samples: Array
    losses: Array
    validation_samples: Array
    validation_values: Array
    metric: str = VALIDATION_METRICS[0]


def read_curves(path: Path) -> Curves:
    """Read the learning curves of a run; where a resumed run repeats steps, the later rows replace the earlier ones.

    Args:
        path: a metrics.jsonl, or a folder of runs, of which the newest is read.

    Raises:
        DataError: the file is missing or damaged, or holds no training losses.
    """
    file = _newest_metrics(path) if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot read it ({error}); expected a metrics.jsonl of a training run") from None
    rows: list[tuple[str, float, float]] = []
    metric = VALIDATION_METRICS[0]
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row = json.loads(line)
            kind, samples = row["kind"], float(row["samples"])
            if kind != "train":
                metric = next((name for name in VALIDATION_METRICS if name in row), metric)
            value = row.get("loss" if kind == "train" else metric)
            new_rows = [] if value is None else [(kind, samples, float(value))]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                f"{file}:{number}: expected a JSON object with kind, samples and metrics, got {line[:60]!r}"
            ) from None
        while rows and (rows[-1][1] > samples or rows[-1][:2] == (kind, samples)):
            rows.pop()
        rows += new_rows
    losses, values = (
        np.array([row[1:] for row in rows if row[0] == kind]).reshape(-1, 2) for kind in ("train", "validation")
    )
    if not len(losses):
        raise DataError(f"{file}: no training losses yet; the first is written about ten seconds after the start")
    return Curves(losses[:, 0], losses[:, 1], values[:, 0], 100 * values[:, 1], metric)


def _newest_metrics(folder: Path) -> Path:
    newest = newest_below(folder, "metrics.jsonl")
    if newest is None:
        raise DataError(f"{folder}: no metrics.jsonl below this folder; expected a folder that a training run wrote")
    return newest


def read_layers(path: Path) -> list[LayerRow]:
    """Read the attention of each layer from an inspection.json.

    Raises:
        DataError: the file is missing or not an inspection.json.
    """
    try:
        layers: list[LayerRow] = json.loads(path.read_text(encoding="utf-8"))["layers"]
        if not layers or any(not layer.keys() >= LAYER_KEYS for layer in layers):
            raise KeyError
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: expected an inspection.json as tools/inspect_attention.py writes it") from None
    return layers
