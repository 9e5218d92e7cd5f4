"""AP by OKS threshold, and its bootstrap over images: pycocotools matches, the precision is summed here.

Summing again for other weights of the images takes milliseconds, so that 1000 resamples of a data set take seconds.
"""

from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from pose.evaluation.coco_ap import make_evaluator
from pose.evaluation.coco_results import Result
from pose.geometry import Array

OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_LEVELS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class RankedMatches:
    """The N evaluated results of a data set, highest score first, for T OKS thresholds.

    Results that COCO ignores (crowds, persons without keypoints) are left out at their thresholds.

    Attributes:
        image_rows: (N,) index of the image of each result.
        true_positives: (T, N) whether a result is matched to an evaluated person.
        false_positives: (T, N) whether it is matched to nobody.
        persons: (I,) number of evaluated persons of each image.
    """

    image_rows: NDArray[np.intp]
    true_positives: NDArray[np.bool_]
    false_positives: NDArray[np.bool_]
    persons: NDArray[np.intp]


def rank_matches(
    ground_truth: COCO, results: Sequence[Result], sigmas: Sequence[float], category_id: int
) -> RankedMatches:
    """Match results to persons as COCO does, at the thresholds 0.50:0.95 and for persons of all areas.

    Args:
        ground_truth: persons, from `pose.evaluation.coco_ap.load_ground_truth`; all its images are evaluated.
        results: COCO keypoint results of these images.
        sigmas: K OKS constants.
        category_id: category of the persons.
    """
    image_ids = sorted(ground_truth.getImgIds())
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    persons = np.zeros(len(image_ids), dtype=np.intp)
    for person in ground_truth.dataset["annotations"]:
        persons[row_of[person["image_id"]]] += bool(person["num_keypoints"]) and not person["iscrowd"]
    if not results:
        none = np.zeros((len(OKS_THRESHOLDS), 0), dtype=bool)
        return RankedMatches(np.zeros(0, dtype=np.intp), none, none, persons)
    with redirect_stdout(StringIO()):
        evaluator = make_evaluator(ground_truth, results, sigmas, image_ids, category_id)
        evaluator.params.areaRng, evaluator.params.areaRngLbl = evaluator.params.areaRng[:1], ["all"]
        evaluator.evaluate()
    images = [(row, image) for row, image in enumerate(evaluator.evalImgs) if image is not None]
    rows = np.concatenate([np.full(len(image["dtIds"]), row) for row, image in images])
    scores = np.concatenate([image["dtScores"] for _, image in images])
    matched = np.concatenate([image["dtMatches"] for _, image in images], axis=1) > 0
    ignored = np.concatenate([image["dtIgnore"] for _, image in images], axis=1).astype(bool)
    order = np.argsort(-scores, kind="stable")
    return RankedMatches(rows[order], (matched & ~ignored)[:, order], (~matched & ~ignored)[:, order], persons)


def average_precision(matches: RankedMatches, image_weights: NDArray[np.intp] | None = None) -> Array:
    """Return the (T,) AP at each threshold, COCO's mean of the precision at 101 levels of recall; NaN without persons.

    Args:
        matches: of the whole data set.
        image_weights: (I,) how often each image counts; None: once.
    """
    weights = np.ones(len(matches.persons), dtype=np.intp) if image_weights is None else image_weights
    persons = int((weights * matches.persons).sum())
    if not persons:
        return np.full(len(OKS_THRESHOLDS), np.nan)
    weight = weights[matches.image_rows]
    true = np.cumsum(weight * matches.true_positives, axis=1)
    false = np.cumsum(weight * matches.false_positives, axis=1)
    precision = true / np.maximum(true + false, 1)
    # The precision at a recall is the highest at this or any higher recall; beyond the highest recall it is 0.
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    highest = np.pad(highest, ((0, 0), (0, 1)))
    at_levels = [
        values[np.searchsorted(recall, RECALL_LEVELS)] for recall, values in zip(true / persons, highest, strict=True)
    ]
    return np.asarray(np.mean(at_levels, axis=1))


def bootstrap_ap(matches: Sequence[RankedMatches], rounds: int, seed: int = 0) -> Array:
    """Return the (rounds, len(matches)) APs of resampled images, the same images for all ``matches``.

    Each round draws as many images as there are, with replacement.
    """
    rng = np.random.default_rng(seed)
    count = len(matches[0].persons)
    draws = (np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(rounds))
    return np.array([[average_precision(each, draw).mean() for each in matches] for draw in draws])


def interval(values: Array) -> tuple[float, float]:
    """Return the central 95 % interval of bootstrap values, without those that are NaN."""
    low, high = np.nanquantile(values, (0.025, 0.975))
    return float(low), float(high)
