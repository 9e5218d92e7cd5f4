"""Metrics of runs: metrics.jsonl, curves.csv, attention.csv, inspection.json."""

import csv
import io
import json
import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from harness import Answer, Case, command
from mutate import damage_text, damage_tree, dump_json

from kinds.coco_files import link
from kinds.coco_rules import is_number, lenient_json
from pose.engine.curves import read_curves, read_layers
from pose.engine.curves_csv import read_experiment

CELLS = (
    "",
    "nan",
    "inf",
    "-1",
    "1e999",
    "x",
    "1,2",
    '"',
    "9" * 400,
    "9" * 5000,
    "\x00",
    "0",
    "1e308",
    "a" * 5000,
    "loss",
    "AP",
    "é",
)


def curves(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of damaged metrics."""
    make = rng.choice((_metrics, _metrics, _csv, _csv, _layers))
    return make(rng, world, folder)


def _metrics(rng: Random, world: Path, folder: Path) -> Case:
    path = folder / "run" / "metrics.jsonl"
    path.parent.mkdir()
    lines = (world / "run/metrics.jsonl").read_text().splitlines()
    if rng.random() < 0.3:
        content, what = damage_text(rng, "\n".join(lines))
    else:
        row = rng.randrange(len(lines))
        tree, what = damage_tree(rng, json.loads(lines[row]))
        lines[row] = dump_json(tree)
        content, what = "\n".join(lines).encode("utf-8", "surrogatepass"), f"row {row} of {len(lines)}: {what}"
    path.write_bytes(content)
    bad = _bad_metrics(content)

    def check(answer: Answer) -> str | None:
        values = answer.value
        columns = (values.samples, values.losses, values.validation_samples, values.validation_values)
        if not all(np.isfinite(column).all() for column in columns):
            return "figures that are not finite"
        if any((np.diff(column) < 0).any() for column in (values.samples, values.validation_samples)):
            return "samples that decrease"
        given = [lenient_json(line) for line in content.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]
        losses = {float(row["loss"]) for row in given if row.get("kind") == "train" and row.get("loss") is not None}
        return None if set(values.losses.tolist()) <= losses else "losses that are not in the file"

    expected = "refused" if bad else "either"
    if rng.random() < 0.7:
        return Case(f"read metrics: {what}", lambda: read_curves(path), expected, check)
    act = command("plot-runs", "--runs", "a=run", "--save-csv", "saved")
    return Case(f"plot-runs metrics: {what}", act, expected, lambda _: _check_csv(folder / "saved/curves.csv"))


def _bad_metrics(content: bytes) -> bool:
    """Return whether a row is clearly damaged: no JSON, or samples or a loss that are no finite number."""
    try:
        rows = [lenient_json(line) for line in content.splitlines() if line.strip()]
    except ValueError:
        return True
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("kind"), str) or not is_number(row.get("samples")):
            return True
        loss = row.get("loss")
        if row["kind"] == "train" and loss is not None and not (type(loss) in (int, float) and abs(loss) < 1e308):
            return True
    return False


def _csv(rng: Random, world: Path, folder: Path) -> Case:
    (folder / "curves").mkdir()
    path = folder / "curves/curves.csv"
    text = (world / "curves/curves.csv").read_text()
    if rng.random() < 0.3:
        content, what = damage_text(rng, text)
    else:
        rows = [line.split(",") for line in text.splitlines()]
        row = rng.randrange(len(rows))
        column = rng.randrange(len(rows[row]))
        cell = rng.choice(CELLS)
        match rng.randrange(4):
            case 0:
                rows.insert(row, rows[row])
                what = f"row {row} repeated"
            case 1:
                del rows[row][column]
                what = f"cell {row}, {column} removed"
            case _:
                rows[row][column] = cell
                what = f"cell {row}, {column} is {cell[:20]!r}"
        content = "\n".join(map(",".join, rows)).encode()
    path.write_bytes(content)

    def check(answer: Answer) -> str | None:
        for runs in answer.value[0].values():
            for run in runs:
                columns = (run.samples, run.losses, run.validation_samples, run.validation_values)
                if not all(np.isfinite(column).all() for column in columns):
                    return "figures that are not finite"
        return None

    if rng.random() < 0.7:
        return Case(f"read curves.csv: {what}", lambda: read_experiment(folder / "curves"), check=check)
    act = command("plot-runs", "--from-csv", "curves", "--save-csv", "saved")
    return Case(f"plot-runs csv: {what}", act, check=lambda _: _check_csv(folder / "saved/curves.csv"))


def _layers(rng: Random, world: Path, folder: Path) -> Case:
    path = folder / "inspection.json"
    text = (world / "inspection.json").read_text()
    if rng.random() < 0.3:
        content, what = damage_text(rng, text)
    else:
        tree, what = damage_tree(rng, json.loads(text))
        content = dump_json(tree).encode("utf-8", "surrogatepass")
    path.write_bytes(content)

    def check(answer: Answer) -> str | None:
        for layer in answer.value:
            for name in ("entropy_mean", "entropy_std", "variation"):
                value: Any = layer[name]
                if type(value) not in (int, float) or not math.isfinite(value):
                    return f"{name} {str(value)[:30]}"
        return None

    if rng.random() < 0.6:
        return Case(f"read inspection: {what}", lambda: read_layers(path), check=check)
    link(world, folder, "run")
    act = command("plot-runs", "--runs", "a=run", "--entropy", "a=inspection.json", "--save-csv", "saved")
    return Case(f"plot-runs inspection: {what}", act, check=lambda _: _check_csv(folder / "saved/attention.csv"))


def _check_csv(path: Path) -> str | None:
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    names = [name for name in ("samples", "value", "entropy_mean", "entropy_std", "variation") if name in rows[0]]
    try:
        wrong = [row for row in rows if not all(math.isfinite(float(row[name])) for name in names)]
    except (TypeError, ValueError) as error:
        return f"{path.name}: {error}"
    return f"{path.name}: {wrong[0]}" if wrong else None
