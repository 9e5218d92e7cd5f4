"""What runs and inspections have written, read back as curves: metrics.jsonl and inspection.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.errors import DataError

Array = NDArray[np.float64]
LayerRow = Mapping[str, Any]
"""One of the ``layers`` of an inspection.json, see `LAYER_KEYS`."""

LAYER_KEYS = frozenset({"name", "kind", "stride", "entropy_mean", "entropy_std", "variation"})


@dataclass(frozen=True)
class Curves:
    """What one run wrote.

    Attributes:
        samples: (T,) seen so far, ascending.
        losses: (T,) means since the row before.
        validation_samples: (V,) ascending.
        aps: (V,) validation AP in points, 0 to 100.
    """

    samples: Array
    losses: Array
    validation_samples: Array
    aps: Array


def read_curves(path: Path) -> Curves:
    """Read the learning curves of a run; where a resumed run repeats steps, the later rows hold.

    Args:
        path: a metrics.jsonl, or a folder of runs: its newest one.

    Raises:
        DataError: there is none, it is damaged, or holds no training losses.
    """
    file = _newest_metrics(path) if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot read it ({error}); expected a metrics.jsonl that a run wrote") from None
    rows: list[tuple[str, float, float]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row = json.loads(line)
            kind, samples = row["kind"], float(row["samples"])
            value = row.get("loss" if kind == "train" else "AP")
            new = [] if value is None else [(kind, samples, float(value))]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                f"{file}:{number}: expected a JSON object with kind, samples and figures, got {line[:60]!r}"
            ) from None
        while rows and (rows[-1][1] > samples or rows[-1][:2] == (kind, samples)):
            rows.pop()
        rows += new
    losses, aps = (
        np.array([row[1:] for row in rows if row[0] == kind]).reshape(-1, 2) for kind in ("train", "validation")
    )
    if not len(losses):
        raise DataError(f"{file}: has no training losses yet; the first row comes some ten seconds after the start")
    return Curves(losses[:, 0], losses[:, 1], aps[:, 0], 100 * aps[:, 1])


def _newest_metrics(folder: Path) -> Path:
    files = sorted(folder.rglob("metrics.jsonl"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise DataError(f"{folder}: no metrics.jsonl below this folder; has a training run written here?")
    return files[-1]


def read_layers(path: Path) -> list[LayerRow]:
    """Read the attention of each layer from an inspection.json.

    Raises:
        DataError: the file is missing or something else.
    """
    try:
        rows: list[LayerRow] = json.loads(path.read_text(encoding="utf-8"))["layers"]
        if not rows or any(not row.keys() >= LAYER_KEYS for row in rows):
            raise KeyError
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: expected an inspection.json as tools/inspect_attention.py writes it") from None
    return rows
