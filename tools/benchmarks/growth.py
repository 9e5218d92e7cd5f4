"""Growth of time and memory with the size of the data: 1, 10 and 100 times val2017.

Reading annotations, reading detector boxes, OKS-NMS of predictions, and results to AP. People and predictions are
invented; a larger size repeats them on new images. Each measurement is a process of its own: its processor time, and
its peak memory above that of the imports. The baseline is the smallest size times the factor, so that a ratio of 1 is
growth in proportion. OKS-NMS and AP stop at smaller factors, because results as Python objects would not fit into the
memory of a usual machine.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pose.cli.arguments import positive_count
from pose.datasets.coco import annotated_persons, detected_persons
from pose.datasets.coco_json import read_results
from pose.evaluation.coco_ap import evaluate
from pose.evaluation.coco_results import Predictions, to_results
from pose.files import replacing, to_json
from pose.skeleton import COCO

from . import Comparison, compare
from ._memory import Cost, cost
from ._synthetic import IMAGES, add_images_argument, synthetic_people
from ._timing import Budget

TARGET = 1.2
"""Largest ratio to growth in proportion: caches and memory get slower with size, so 1 cannot be expected."""
BASE = "1 x in proportion"
ANNOTATIONS, BOXES, RESULTS, PREDICTIONS = "annotations.json", "boxes.json", "results.json", "predictions.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--pictures`` and ``--largest``."""
    add_images_argument(parser, IMAGES)
    parser.add_argument(
        "--largest", type=positive_count, default=100, metavar="N", help="leave out larger factors (default: 100)"
    )


def measure(
    budget: Budget, rng: np.random.Generator, *, images: int = IMAGES, largest: int = 100
) -> Iterator[Comparison]:
    """Measure each step at each size, one budget each; yields time and memory of each size."""
    with TemporaryDirectory() as folder:
        factors = sorted({factor for part in PARTS.values() for factor in part[1] if factor <= largest})
        content, predictions = synthetic_people(images, rng)
        for name, (call, part_factors) in PARTS.items():
            costs: dict[int, Cost] = {}
            for factor in (factor for factor in factors if factor in part_factors):
                data = Path(folder) / str(factor)
                if not data.exists():
                    write_data(data, content, predictions, images, factor)
                costs[factor] = _cheapest(partial(call, data), budget)
                yield from _compare(name, factor, costs, rng)


def _cheapest(call: Callable[[], object], budget: Budget) -> Cost:
    """Return the smallest time and memory of a call in several processes."""
    costs: list[Cost] = []
    while budget.allows(len(costs), sum(each.seconds for each in costs)):
        costs.append(cost(call))
    return Cost(min(each.seconds for each in costs), min(each.peak_bytes for each in costs))


def _compare(name: str, factor: int, costs: Mapping[int, Cost], rng: np.random.Generator) -> Iterator[Comparison]:
    for quantity, unit, column in (("time", "ms", 0), ("peak memory", "MB", 1)):
        ours, base = (np.array([float(costs[size][column])]) for size in (factor, 1))
        case = f"{name}, {factor} x val2017, {quantity}"
        yield compare(case, ours, base * factor, BASE, rng, None if factor == 1 else TARGET, unit)


def write_data(folder: Path, content: Mapping[str, Any], predictions: Predictions, images: int, factor: int) -> None:
    """Write annotations, detector boxes, predictions and their results, each ``factor`` times on new images.

    Args:
        folder: to create.
        content: annotation file of `synthetic_people`.
        predictions: of `synthetic_people`.
        images: number of images.
        factor: number of copies.
    """
    folder.mkdir()
    persons = len(content["annotations"])
    image_rows = (_shift(content["images"], copy, id=images) for copy in range(factor))
    person_rows = (_shift(content["annotations"], copy, id=persons, image_id=images) for copy in range(factor))
    with replacing(folder / ANNOTATIONS) as path, path.open("wb") as file:
        file.write(b'{"categories": %b, "images": ' % to_json(content["categories"], path).encode())
        _write_rows(file.write, image_rows)
        file.write(b', "annotations": ')
        _write_rows(file.write, person_rows)
        file.write(b"}")
    for name, rows in ((BOXES, _boxes(predictions)), (RESULTS, to_results(predictions, COCO.sigmas))):
        with replacing(folder / name) as path, path.open("wb") as file:
            _write_rows(file.write, (_shift(rows, copy, image_id=images) for copy in range(factor)))
    np.savez(folder / PREDICTIONS, **vars(predictions), images=images, factor=factor)


def _boxes(predictions: Predictions) -> list[dict[str, Any]]:
    """Return a detector box around the keypoints of each prediction."""
    low, high = (bound(predictions.keypoints_image, axis=1).round(2) for bound in (np.min, np.max))
    boxes = np.concatenate([low, high - low], axis=1).tolist()
    columns = predictions.image_ids.tolist(), boxes, predictions.box_scores.round(4).tolist()
    return [
        {"image_id": image_id, "category_id": 1, "bbox": bbox, "score": score}
        for image_id, bbox, score in zip(*columns, strict=True)
    ]


def _shift(rows: Sequence[Mapping[str, Any]], copy: int, **steps: int) -> list[dict[str, Any]]:
    return [{**row, **{key: row[key] + copy * step for key, step in steps.items()}} for row in rows]


def _write_rows(write: Callable[[bytes], object], copies: Iterator[list[dict[str, Any]]]) -> None:
    separator = b"["
    for rows in copies:
        write(separator + to_json(rows, "rows").encode()[1:-1])
        separator = b","
    write(b"]")


def _read_annotations(folder: Path) -> None:
    annotated_persons(folder / ANNOTATIONS, folder, COCO)


def _read_detections(folder: Path) -> None:
    detected_persons(folder / BOXES, folder / ANNOTATIONS, folder, COCO)


def _suppress(folder: Path) -> None:
    with np.load(folder / PREDICTIONS) as columns:
        arrays = dict(columns)
    images, factor = int(arrays.pop("images")), int(arrays.pop("factor"))
    repeated = {name: np.concatenate([array] * factor) for name, array in arrays.items()}
    repeated["image_ids"] += images * np.repeat(np.arange(factor), len(arrays["image_ids"]))
    to_results(Predictions(**repeated), COCO.sigmas)


def _evaluate(folder: Path) -> None:
    evaluate(folder / ANNOTATIONS, read_results(folder / RESULTS, COCO.num_keypoints), COCO.sigmas)


PARTS: Mapping[str, tuple[Callable[[Path], None], tuple[int, ...]]] = {
    "reading annotations": (_read_annotations, (1, 10, 100)),
    "reading boxes": (_read_detections, (1, 10, 100)),
    "OKS-NMS": (_suppress, (1, 10, 30)),
    "results to AP": (_evaluate, (1, 10)),
}
"""Steps: function of the folder of the data, and factors of val2017's size."""
