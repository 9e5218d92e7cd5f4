"""From predictions to COCO AP at the scale of val2017: rescoring, OKS-NMS, result file, COCOeval.

People and predictions are synthetic. HRNet's code has the annotations in memory already, ours reads the file. Without
--peer only the step from results to AP is compared, with pycocotools alone. Memory is the peak of a process that does
nothing else and has torch loaded.
"""

import argparse
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
from pose.files import write_json

from . import Comparison, compare, compare_first, require_same
from ._hrnet import HRNET, add_peer_argument, hrnet_config, hrnet_dataset, load_hrnet
from ._memory import peak_bytes
from ._synthetic import IMAGES, add_images_argument, synthetic_people
from ._timing import Budget

logger = logging.getLogger(__name__)

IMAGE_SET = "val2017"
TARGETS = {HRNET: 1 / 3}
TOLERANCE = 1e-4
"""Largest difference of a metric: ours rounds coordinates to a thousandth of a pixel."""
SIGMAS = skeleton.COCO.sigmas

MetricValues = list[float]
"""In the order of `METRIC_NAMES`."""
Calls = dict[str, Callable[[], MetricValues]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--peer`` and ``--pictures``."""
    add_peer_argument(parser)
    add_images_argument(parser, IMAGES)


def measure(
    budget: Budget, rng: np.random.Generator, *, peer: Path | None, images: int = IMAGES
) -> Iterator[Comparison]:
    """Time ours and the others, one budget each, and measure the memory of ours and HRNet's code.

    Raises:
        PoseError: ``peer`` is not a checkout of HRNet's code, or computes other metrics.
    """
    if peer is not None:
        load_hrnet(peer, "dataset.coco")  # fail early if the path is wrong
    # No warmup: a round is long, and the comparison of the results has called everything once.
    budget = replace(budget, warmup=0)
    content, predictions = synthetic_people(images, rng)
    boxes = f"{len(predictions):,} boxes on {images:,} images"
    with TemporaryDirectory() as folder:
        annotations = Path(folder) / "annotations" / f"person_keypoints_{IMAGE_SET}.json"
        write_json(annotations, content)
        results = to_results(predictions, SIGMAS)
        calls: Calls = {
            "ours": partial(_our_metrics, annotations, results),
            "pycocotools": partial(_pycocotools_metrics, annotations, results),
        }
        _require_same_metrics(calls, 0)
        yield from compare_first(f"{len(results):,} results to AP", calls, budget, rng, {})
        if peer is None:
            return
        calls = {
            "ours": partial(_from_predictions, annotations, predictions),
            HRNET: _hrnet_evaluation(peer, annotations, predictions),
        }
        _require_same_metrics(calls, TOLERANCE)
        yield from compare_first(f"{boxes} to AP", calls, budget, rng, TARGETS)
        yield from _compare_memory(f"{boxes} to AP, peak memory", peer, annotations, predictions, rng)


def _require_same_metrics(calls: Calls, tolerance: float) -> None:
    ours, *others = ((name, call()) for name, call in calls.items())
    for name, values in others:
        require_same(f"metrics {', '.join(METRIC_NAMES)}", name, ours[1], values, tolerance)


def _from_predictions(annotations: Path, predictions: Predictions) -> MetricValues:
    results = to_results(predictions, SIGMAS)
    write_results(results, annotations.parent.parent / "results.json")
    return _our_metrics(annotations, results)


def _our_metrics(annotations: Path, results: Sequence[Result]) -> MetricValues:
    metrics = evaluate(annotations, results, SIGMAS)
    return [getattr(metrics, name) for name in METRIC_NAMES]


def _pycocotools_metrics(annotations: Path, results: Sequence[Result]) -> MetricValues:
    with redirect_stdout(StringIO()):
        coco = COCO(str(annotations))
        evaluator = COCOeval(coco, coco.loadRes([dict(row) for row in results]), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    values: MetricValues = evaluator.stats.tolist()
    return values


def _hrnet_evaluation(peer: Path, annotations: Path, predictions: Predictions) -> Callable[[], MetricValues]:
    """Return HRNet's evaluation of predictions, in the array layout of its test loop."""
    root = annotations.parent.parent
    dataset = hrnet_dataset(peer, root, IMAGE_SET, is_train=False)
    keypoints = np.concatenate([predictions.keypoints_image, predictions.keypoint_scores[..., None]], axis=-1)
    boxes = np.zeros((len(predictions), 6))  # center and scale (unused), area, score
    boxes[:, 4], boxes[:, 5] = predictions.areas, predictions.box_scores
    paths = [f"{image_id:012d}.jpg" for image_id in predictions.image_ids]

    def evaluate_with_hrnet() -> MetricValues:
        with redirect_stdout(StringIO()):
            values, _ = dataset.evaluate(hrnet_config(), keypoints, str(root / "hrnet"), boxes, paths)
        return list(values.values())

    return evaluate_with_hrnet


def _hrnet_from_predictions(peer: Path, annotations: Path, predictions: Predictions) -> None:
    _hrnet_evaluation(peer, annotations, predictions)()


def _compare_memory(
    case: str, peer: Path, annotations: Path, predictions: Predictions, rng: np.random.Generator
) -> Iterator[Comparison]:
    if find_spec("resource") is None:
        logger.warning("memory is not measured: this system does not report the peak memory of a process")
        return
    calls = (
        partial(_from_predictions, annotations, predictions),
        partial(_hrnet_from_predictions, peer, annotations, predictions),
    )
    ours, against = (np.array([float(peak_bytes(call))]) for call in calls)
    yield compare(case, ours, against, HRNET, rng, unit="MB")
