"""Learning curves and attention by layer, read from what training runs and attention ablations write."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.errors import DataError
from pose.files import newest_below
from pose.geometry import Array

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
        raise DataError(f"{path}: expected an inspection.json as `dyconv-pose inspect-attention` writes it") from None
    return layers
