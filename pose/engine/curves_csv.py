"""Learning curves and attention of an experiment as two small CSV files, from which its plots can be drawn again."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pose.engine.curves import VALIDATION_METRICS, Curves, LayerRow
from pose.errors import DataError
from pose.files import write_texts

CURVES_FILE = "curves.csv"
CURVE_COLUMNS = ("case", "run", "kind", "samples", "value")
"""``run`` numbers the runs of a case from 0, ``kind`` is "loss" or one of `VALIDATION_METRICS` (in percent)."""
LOSS = "loss"

ATTENTION_FILE = "attention.csv"
LAYER_COLUMNS = ("case", "name", "kind", "stride", "entropy_mean", "entropy_std", "variation")

MAX_LOSS_ROWS = 1000
"""Loss rows of one file; its runs share them equally. That is about 30 KB."""


def write_experiment(
    folder: Path, cases: Mapping[str, Sequence[Curves]], attention: Mapping[str, Sequence[LayerRow]]
) -> list[Path]:
    """Write the runs of each case to curves.csv and, if there is any, attention by layer to attention.csv.

    Losses are thinned so that the file keeps at most `MAX_LOSS_ROWS` of them.

    Args:
        folder: to write into; created if missing.
        cases: runs by label.
        attention: layers by label.

    Returns:
        the files written.

    Raises:
        MediaError: the folder cannot be written.
    """
    max_rows = max(1, MAX_LOSS_ROWS // max(1, sum(map(len, cases.values()))))
    curves_file, attention_file = experiment_files(folder)
    texts = {curves_file: _to_csv(CURVE_COLUMNS, _curve_rows(cases, max_rows))}
    if attention:
        texts[attention_file] = _to_csv(LAYER_COLUMNS, _layer_rows(attention))
    write_texts(texts)
    return [*texts]


def experiment_files(folder: Path | None) -> list[Path]:
    """Return the two files of an experiment in a folder; none without a folder."""
    return [] if folder is None else [folder / CURVES_FILE, folder / ATTENTION_FILE]


def read_experiment(folder: Path) -> tuple[dict[str, list[Curves]], dict[str, list[LayerRow]]]:
    """Read what `write_experiment` wrote: runs by label, and layers by label (none without an attention.csv).

    Raises:
        DataError: curves.csv is missing, or a file is damaged.
    """
    attention = folder / ATTENTION_FILE
    return _read_curves(folder / CURVES_FILE), _read_attention(attention) if attention.exists() else {}


def thin(curves: Curves, max_rows: int) -> Curves:
    """Average groups of consecutive loss rows, of nearly equal size, so that at most ``max_rows`` are left.

    Samples are averaged like losses: `pose.engine.plots.smooth` gives nearly the same curve as long as the spacing of
    the rows is below its width.
    """
    groups = min(max_rows, len(curves.samples))
    samples, losses = (
        np.array([group.mean() for group in np.array_split(column, groups)])
        for column in (curves.samples, curves.losses)
    )
    return replace(curves, samples=samples, losses=losses)


# --- writing


def _curve_rows(cases: Mapping[str, Sequence[Curves]], max_rows: int) -> Iterator[tuple[object, ...]]:
    for case, runs in cases.items():
        for run, curves in enumerate(runs):
            thinned = thin(curves, max_rows)
            for kind, samples, values in (
                (LOSS, thinned.samples, thinned.losses),
                (thinned.metric, thinned.validation_samples, thinned.validation_values),
            ):
                for seen, value in zip(samples, values, strict=True):
                    yield case, run, kind, int(seen), f"{value:.5g}"


def _layer_rows(attention: Mapping[str, Sequence[LayerRow]]) -> Iterator[tuple[object, ...]]:
    for case, layers in attention.items():
        for layer in layers:
            numbers = (f"{layer[name]:.4g}" for name in LAYER_COLUMNS[4:])
            yield case, layer["name"], layer["kind"], layer["stride"], *numbers


def _to_csv(columns: Sequence[str], rows: Iterator[tuple[object, ...]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


# --- reading


def _read_curves(file: Path) -> dict[str, list[Curves]]:
    runs: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for number, row in _csv_rows(file, CURVE_COLUMNS):
        kind = row["kind"]
        samples, value = _floats(file, number, row, ("samples", "value"))
        if kind not in (LOSS, *VALIDATION_METRICS):
            expected = " or ".join((LOSS, *VALIDATION_METRICS))
            raise DataError(f"{file}:{number}: expected kind {expected}, got {kind!r}")
        points = runs.setdefault((row["case"], row["run"]), {}).setdefault(kind, [])
        if points and samples <= points[-1][0]:
            raise DataError(
                f"{file}:{number}: expected more samples than in the row before of this run and kind "
                f"({points[-1][0]:g}), got {samples:g}"
            )
        points.append((samples, value))
    cases: dict[str, list[Curves]] = {}
    for (case, run), points_of in runs.items():
        cases.setdefault(case, []).append(_run_curves(file, f"case {case!r}, run {run!r}", points_of))
    return cases


def _run_curves(file: Path, name: str, points_of: Mapping[str, Sequence[tuple[float, float]]]) -> Curves:
    metrics = [metric for metric in VALIDATION_METRICS if metric in points_of]
    if LOSS not in points_of or len(metrics) > 1:
        raise DataError(f"{file}: expected loss rows and one validation metric for {name}, got {', '.join(points_of)}")
    losses = np.array(points_of[LOSS])
    metric = metrics[0] if metrics else VALIDATION_METRICS[0]
    validations = np.array(points_of.get(metric, [])).reshape(-1, 2)
    return Curves(losses[:, 0], losses[:, 1], validations[:, 0], validations[:, 1], metric)


def _read_attention(file: Path) -> dict[str, list[LayerRow]]:
    cases: dict[str, list[LayerRow]] = {}
    for number, row in _csv_rows(file, LAYER_COLUMNS):
        names = LAYER_COLUMNS[3:]
        numbers = dict(zip(names, _floats(file, number, row, names), strict=True))
        layer: dict[str, Any] = {"name": row["name"], "kind": row["kind"], **numbers, "stride": int(numbers["stride"])}
        cases.setdefault(row["case"], []).append(layer)
    return cases


def _csv_rows(file: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return line number and cells of each row after the header; every cell holds something.

    Raises:
        DataError: the file cannot be read, has other columns or no rows, or a row lacks a cell.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [(reader.line_num, cells) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot read it ({error}); expected what plot_runs --save-csv writes") from None
    header = rows[0][1] if rows else []
    if header != list(columns):
        raise DataError(f"{file}:1: expected the columns {','.join(columns)}, got {','.join(header)[:80]!r}")
    if len(rows) == 1:
        raise DataError(f"{file}: expected rows below the header, got none")
    for number, cells in rows[1:]:
        if len(cells) != len(columns) or not all(cells):
            raise DataError(f"{file}:{number}: expected {','.join(columns)}, got {','.join(cells)[:80]!r}")
    return [(number, dict(zip(columns, cells, strict=True))) for number, cells in rows[1:]]


def _floats(file: Path, number: int, row: Mapping[str, str], names: Sequence[str]) -> list[float]:
    try:
        numbers = [float(row[name]) for name in names]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        got = ",".join(row[name] for name in names)
        raise DataError(f"{file}:{number}: expected numbers for {', '.join(names)}, got {got!r}")
    return numbers
