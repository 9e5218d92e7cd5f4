"""Learning curves and attention by layer, read from what training runs and attention ablations write."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct, structs

from pose.errors import DataError
from pose.files import newest_below
from pose.geometry import Array
from pose.json_file import decode_json, read_json

LayerRow = Mapping[str, Any]
"""Attention of one layer by name: the fields of `Layer`."""


class Layer(Struct):
    """Attention of one layer: an entry of ``layers`` in inspection.json."""

    name: str
    kind: str
    stride: Annotated[int, Meta(ge=0, le=2**31)]
    entropy_mean: float
    entropy_std: float
    variation: float


class Inspection(Struct):
    """Content of an inspection.json."""

    layers: Annotated[list[Layer], Meta(min_length=1)]


class MetricsRow(Struct):
    """A row of metrics.jsonl; a value that was not finite is null."""

    kind: str
    samples: Annotated[float, Meta(ge=0, le=2**53)]
    loss: float | None = None
    AP: float | None = None
    top1: float | None = None


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
    for number, line in enumerate(StringIO(text), start=1):  # not `splitlines`, which splits text, too
        row = decode_json(line, MetricsRow, "a mapping with kind, samples and metrics", f"{file}:{number}")
        if row.kind != "train":
            metric = next((name for name in VALIDATION_METRICS if getattr(row, name) is not None), metric)
        value = row.loss if row.kind == "train" else getattr(row, metric)
        while rows and (rows[-1][1] > row.samples or rows[-1][:2] == (row.kind, row.samples)):
            rows.pop()
        rows += [] if value is None else [(row.kind, row.samples, value)]
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
    content = read_json(path, Inspection, "an inspection.json as `dyconv-pose inspect-attention` writes it")
    return [structs.asdict(layer) for layer in content.layers]
