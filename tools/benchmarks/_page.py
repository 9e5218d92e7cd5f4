"""The page of benchmarks: two tables that most readers need, and every measurement, folded."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pose.errors import DataError

from ._hrnet import HRNET, SOURCE
from ._models import CHANNELS_LAST
from ._public_layer import PUBLIC
from ._public_layer import SOURCE as LAYER_SOURCE
from ._record import Record, Row, read_record

INTRODUCTION = f"""# Benchmarks

<!-- Written by tools/render_benchmarks.py from docs/benchmarks/*.json; do not edit. -->

Times and peak memory against public code, and of dynamic against static models. The ratio is ours divided by the other;
below 1, ours is faster or smaller. Times are medians of processor time on one thread, measured in alternation; videos,
whose threads overlap, are timed by the clock. Differences below 10% are inconclusive. A target is the largest ratio
that the project aims at; without "reached" it is missed. The machine and what else ran on it are with each measurement.
`tools/render_benchmarks.py` makes this page of the files that `tools/benchmark.py all --json docs/benchmarks` writes.

The peers are public code, which is run and not copied: [HRNet's code][hrnet], whose pipeline is also SimpleBaseline's,
and the most used [dynamic convolution layer][layer] for PyTorch.

[hrnet]: {SOURCE}
[layer]: {LAYER_SOURCE}"""

SUITES = {
    "peer": ("MoveNet Lightning", "One person, from the pixels of a crop to keypoints. MoveNet is a smaller model."),
    "latency": (
        "One crop at a time",
        "Models fused for inference, batch 1. Pooling the input of each layer and mixing K kernels has a cost that "
        "does not depend on the size of the maps, so small models have the larger ratios.",
    ),
    "backends": (
        "Exported models",
        "ONNX Runtime's fast memory layout needs constant kernels, which dynamic models do not have. OpenVINO does not "
        "depend on them.",
    ),
    "dynamic_conv": ("Layers and whole models in PyTorch", "Inference and training steps, in both memory layouts."),
    "make_dynamic": ("Public models, made dynamic", "Models of torchvision."),
    "decode": ("Heatmaps to keypoints", "All persons in one call."),
    "nms": ("OKS-NMS", "The greedy loop compares the best remaining person with the rest."),
    "pipeline": ("A training sample", "From a JPEG or from the crop cache, with augmentation, in one process."),
    "evaluate": ("Evaluation", "Invented people and predictions, as many as val2017 and its detector boxes have."),
    "growth": (
        "Growth with the size of the data",
        "Each size is a process of its own. The baseline is the smallest size times the factor (dashed): a ratio of 1 "
        "is growth in proportion. OKS-NMS and AP stop at 30 and 10 times val2017: their results are Python objects, "
        "which would not fit into the memory at 100.",
    ),
    "video": ("Video demo", "With the runtime that users get by default. Stages are in CPU time of a serial run."),
    "detect_every": (
        "A detector in every Nth frame",
        "A drawn clip of four people, with known keypoints. Without `--detector` the detector knows the boxes and "
        "takes 30 ms a frame: what is measured is the loss from boxes around the last keypoints.",
    ),
}
"""Heading and explanation of each suite, in the order of the page."""
GROWTH_PLOT = "![Time and memory over the size of the data](images/growth.png)"
PEERS = re.compile(rf"{re.escape(HRNET)}|{re.escape(PUBLIC)}|movenet.*")
STATIC = re.compile(rf"static({re.escape(CHANNELS_LAST)})?")
SUMMARY_SUITES = ("latency", "backends")
"""Suites of the table of dynamic against static models."""
DETECTION = re.compile(r"detection in every (\d+) frames, \w+, (time a frame|AP)")

COLUMNS = ("case", "ours", "other", "ratio", "target")


def read_records(folder: Path) -> dict[str, Record]:
    """Read the measurements of a folder, by the name of their file, in the order of the page.

    Raises:
        DataError: there is none, one cannot be used, or is of a suite that does not exist.
    """
    records = {path.stem: read_record(path) for path in sorted(folder.glob("*.json"))}
    if not records:
        raise DataError(f"{folder}: expected measurements (.json), got none; run tools/benchmark.py SUITE --json FILE")
    for name, record in records.items():
        if record.suite not in SUITES:
            raise DataError(f"{folder / name}.json: no suite '{record.suite}'; there are {', '.join(SUITES)}")
    order = list(SUITES)
    return dict(sorted(records.items(), key=lambda item: order.index(item[1].suite)))


def render_page(records: Mapping[str, Record]) -> str:
    """Return the page in Markdown; its figures are those of the records."""
    rows = [row for record in records.values() for row in record.rows]
    peers = [row for row in rows if PEERS.fullmatch(row.against_name)]
    static = [row for row in rows if row.suite in SUMMARY_SUITES and STATIC.fullmatch(row.against_name)]
    parts = [
        INTRODUCTION,
        "## Against other projects",
        *_table(COLUMNS, map(_cells, peers)),
        "## Dynamic against static models",
        *_table(COLUMNS, map(_cells, static)),
        "## All measurements",
    ]
    for record in records.values():
        parts += _section(record)
    return "\n\n".join(parts) + "\n"


def _section(record: Record) -> list[str]:
    title, text = SUITES[record.suite]
    head = [f"### {title}", text, f"```\n{record.command}\n```"]
    if record.suite == "growth":
        head.append(GROWTH_PLOT)
    if record.suite == "detect_every":
        head += _table(("N", "frames/s", "AP", "AP lost"), _detection_cells(record.rows))
    conditions = f" Meanwhile: {record.conditions}." if record.conditions else ""
    measured = f"Measured on {record.date}, commit {record.commit}. {record.machine}; {record.versions}.{conditions}"
    return [
        *head,
        f'<details markdown="1">\n<summary>{len(record.rows)} rows</summary>',
        *_table(COLUMNS, map(_cells, record.rows)),
        measured,
        "</details>",
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table as one part of the page; without rows none."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    if not lines:
        return []
    return ["\n".join([f"| {' | '.join(columns)} |", "|" + "---|" * len(columns), *lines])]


def _cells(row: Row) -> tuple[str, ...]:
    target = "" if row.bar is None else f"{row.bar:.2f}" + (" reached" if row.ratio <= row.bar else "")
    other = f"{row.against_name} {number(row.against)}"
    return row.case, f"{number(row.ours)} {row.unit}", other, f"{row.ratio:.{3 if row.ratio < 0.1 else 2}f}", target


def _detection_cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    values: dict[str, dict[str, Row]] = {}
    for row in rows:
        if match := DETECTION.fullmatch(row.case):
            values.setdefault(match[1], {})[match[2]] = row
    return [
        (every, f"{1000 / by_name['time a frame'].ours:.1f}", f"{by_name['AP'].ours:.1f}",
         f"{by_name['AP'].against - by_name['AP'].ours:.1f}")
        for every, by_name in values.items()
    ]  # fmt: skip


def number(value: float) -> str:
    """Return a number with three digits, or all of those before the point."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"
