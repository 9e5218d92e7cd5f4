"""Predictions as arrays to COCO's AP at val2017's scale: person scores, OKS-NMS, result file, COCOeval.

People and predictions are invented. HRNet's code has its annotations already, ours reads them. Without ``--peer`` only
the way from results to AP is compared, with pycocotools alone. Where memory is measured, it is that of a process which
does nothing else and has torch loaded.
"""

import argparse
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose import skeleton
from pose.evaluation.coco_ap import METRIC_NAMES, evaluate
from pose.evaluation.coco_results import Predictions, Result, to_results, write_results

from . import Comparison, compare, compare_first, require_same
from ._hrnet import HRNET, add_peer_argument, hrnet_config, hrnet_data_set, load_hrnet
from ._invented import PICTURES, add_images_argument, invent
from ._memory import peak_bytes
from ._timing import Budget

logger = logging.getLogger(__name__)

IMAGE_SET = "val2017"
BARS = {HRNET: 1 / 3}
TOLERANCE = 1e-4
"""Of a figure: ours rounds coordinates to a thousandth of a pixel."""
SIGMAS = skeleton.COCO.sigmas

Figures = list[float]
Calls = dict[str, Callable[[], Figures]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the peer and the number of images."""
    add_peer_argument(parser)
    add_images_argument(parser, PICTURES)


def measure(
    budget: Budget, rng: np.random.Generator, *, peer: Path | None, images: int = PICTURES
) -> Iterator[Comparison]:
    """Time ours and the other, a budget for each comparison, and measure their memory.

    Raises:
        PoseError: ``peer`` is no checkout of HRNet's code, or comes to other figures.
    """
    if peer is not None:
        load_hrnet(peer, "dataset.coco")  # a wrong path is told now, and not after minutes
    # A round is long, and every call has been made once before.
    budget = replace(budget, warmup=0)
    content, predictions = invent(images, rng)
    boxes = f"{len(predictions):,} boxes on {images:,} images"
    with TemporaryDirectory() as folder:
        annotations = Path(folder) / "annotations" / f"person_keypoints_{IMAGE_SET}.json"
        annotations.parent.mkdir()
        annotations.write_text(json.dumps(content), encoding="utf-8")
        results = to_results(predictions, SIGMAS)
        calls: Calls = {
            "ours": partial(_our_figures, annotations, results),
            "pycocotools": partial(_pycocotools_figures, annotations, results),
        }
        _require_same_figures(calls, 0)
        yield from compare_first(f"{len(results):,} results to AP", calls, budget, rng, {})
        if peer is None:
            return
        calls = {
            "ours": partial(_from_predictions, annotations, predictions),
            HRNET: _hrnet_evaluation(peer, annotations, predictions),
        }
        _require_same_figures(calls, TOLERANCE)
        yield from compare_first(f"{boxes} to AP", calls, budget, rng, BARS)
        yield from _compare_memory(f"{boxes} to AP, peak memory", peer, annotations, predictions, rng)


def _require_same_figures(calls: Calls, tolerance: float) -> None:
    ours, *others = ((name, call()) for name, call in calls.items())
    for name, figures in others:
        require_same(f"figures {', '.join(METRIC_NAMES)}", name, ours[1], figures, tolerance)


def _from_predictions(annotations: Path, predictions: Predictions) -> Figures:
    results = to_results(predictions, SIGMAS)
    write_results(results, annotations.parent.parent / "results.json")
    return _our_figures(annotations, results)


def _our_figures(annotations: Path, results: Sequence[Result]) -> Figures:
    metrics = evaluate(annotations, results, SIGMAS)
    return [getattr(metrics, name) for name in METRIC_NAMES]


def _pycocotools_figures(annotations: Path, results: Sequence[Result]) -> Figures:
    with redirect_stdout(StringIO()):
        truth = COCO(str(annotations))
        evaluator = COCOeval(truth, truth.loadRes([dict(row) for row in results]), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    figures: Figures = evaluator.stats.tolist()
    return figures


def _hrnet_evaluation(peer: Path, annotations: Path, predictions: Predictions) -> Callable[[], Figures]:
    """Return HRNet's evaluation of predictions, laid out as its test loop lays them out."""
    root = annotations.parent.parent
    data_set = hrnet_data_set(peer, root, IMAGE_SET, is_train=False)
    keypoints = np.concatenate([predictions.keypoints_image, predictions.keypoint_scores[..., None]], axis=-1)
    boxes = np.zeros((len(predictions), 6))  # centre and scale, which decide nothing, area and score
    boxes[:, 4], boxes[:, 5] = predictions.areas, predictions.box_scores
    paths = [f"{image_id:012d}.jpg" for image_id in predictions.image_ids]

    def figures() -> Figures:
        with redirect_stdout(StringIO()):
            values, _ = data_set.evaluate(hrnet_config(), keypoints, str(root / "theirs"), boxes, paths)
        return list(values.values())

    return figures


def _hrnet_from_predictions(peer: Path, annotations: Path, predictions: Predictions) -> None:
    _hrnet_evaluation(peer, annotations, predictions)()


def _compare_memory(
    case: str, peer: Path, annotations: Path, predictions: Predictions, rng: np.random.Generator
) -> Iterator[Comparison]:
    if find_spec("resource") is None:
        logger.warning("memory is not measured: this system does not tell a process what it has needed")
        return
    calls = (
        partial(_from_predictions, annotations, predictions),
        partial(_hrnet_from_predictions, peer, annotations, predictions),
    )
    ours, theirs = (np.array([float(peak_bytes(call))]) for call in calls)
    yield compare(case, ours, theirs, HRNET, rng, unit="MB")
