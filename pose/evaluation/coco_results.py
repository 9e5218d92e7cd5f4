"""Predicted persons as arrays, and the result file of the COCO keypoint server made from them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.datasets.coco_json import read_json
from pose.errors import DataError
from pose.evaluation.oks import oks_nms, rescore
from pose.files import write_text

Result = dict[str, Any]
"""One person of a result file: image_id, category_id, keypoints (3K floats x, y, score) and score."""


@dataclass(frozen=True)
class Predictions:
    """N predicted persons of any number of images, in any order.

    Attributes:
        image_ids: (N,) integers.
        keypoints_image: (N, K, 2) x, y in image pixels.
        keypoint_scores: (N, K) peaks of the heatmaps.
        box_scores: (N,) of the detector; 1 for ground-truth boxes.
        areas: (N,) of the padded view in square image pixels.
    """

    image_ids: NDArray[np.integer]
    keypoints_image: NDArray[np.floating]
    keypoint_scores: NDArray[np.floating]
    box_scores: NDArray[np.floating]
    areas: NDArray[np.floating]

    def __len__(self) -> int:
        """N."""
        return len(self.image_ids)


def to_results(
    predictions: Predictions,
    sigmas: Sequence[float],
    keypoint_threshold: float = 0.2,
    nms_threshold: float = 0.9,
    category_id: int = 1,
) -> list[Result]:
    """Score the persons, suppress doubles in each image, and lay them out as the COCO server wants them.

    The same persons in another order give the same list: by image id, best first, ties by coordinates.

    Args:
        predictions: all persons of the data set.
        sigmas: K OKS constants.
        keypoint_threshold: peaks above it count in a person's score (`pose.evaluation.oks.rescore`).
        nms_threshold: OKS above which the lower-scored person is dropped.
        category_id: of the persons in the annotation file.

    Raises:
        DataError: a coordinate or score is not finite.
    """
    scores = rescore(predictions.box_scores, predictions.keypoint_scores, keypoint_threshold)
    _require_finite(predictions, scores)
    kept = [np.empty(0, dtype=np.intp)]
    for rows in _rows_by_image(predictions):
        keep = oks_nms(predictions.keypoints_image[rows], predictions.areas[rows], scores[rows], nms_threshold, sigmas)
        kept.append(rows[keep])
    return _lay_out(predictions, scores, np.concatenate(kept), category_id)


def _require_finite(predictions: Predictions, scores: NDArray[np.float64]) -> None:
    finite = np.isfinite(scores) & np.isfinite(predictions.keypoints_image).all(axis=(1, 2))
    finite &= np.isfinite(predictions.keypoint_scores).all(axis=1) & np.isfinite(predictions.areas)
    if not finite.all():
        raise DataError(
            f"predictions: expected finite coordinates and scores, got {int((~finite).sum())} of {len(finite)} persons "
            f"with NaN or infinity (first in image {predictions.image_ids[~finite][0]}); are the weights damaged?"
        )


def _rows_by_image(predictions: Predictions) -> list[NDArray[np.intp]]:
    """Return the row indices of each image, in an order that does not depend on the order of the rows."""
    if not len(predictions):
        return []
    coordinates = predictions.keypoints_image.reshape(len(predictions), -1)
    # lexsort takes its most important key last.
    order = np.lexsort((*coordinates.T, predictions.image_ids))
    return np.split(order, np.flatnonzero(np.diff(predictions.image_ids[order])) + 1)


def _lay_out(
    predictions: Predictions, scores: NDArray[np.float64], rows: NDArray[np.intp], category_id: int
) -> list[Result]:
    # A thousandth of a pixel is lost in the OKS of the smallest person; the score orders persons and keeps its digits.
    xy = predictions.keypoints_image[rows].astype(np.float64).round(3)
    peaks = predictions.keypoint_scores[rows].astype(np.float64).round(4)
    numbers = np.concatenate([xy, peaks[..., None]], axis=-1).reshape(len(rows), 3 * peaks.shape[1])
    columns = predictions.image_ids[rows].tolist(), numbers.tolist(), scores[rows].tolist()
    return [
        {"image_id": image_id, "category_id": category_id, "keypoints": keypoints, "score": round(score, 8)}
        for image_id, keypoints, score in zip(*columns, strict=True)
    ]


def write_results(results: Sequence[Result], path: Path) -> None:
    """Write a result file, whole or not at all; its folder is made when missing."""
    write_text(path, json.dumps(list(results), allow_nan=False))


def read_results(path: Path) -> list[Result]:
    """Read a result file of ours or of another project.

    Raises:
        DataError: the file is missing, not JSON, or not a list of keypoint results.
    """
    results = read_json(path)
    if not isinstance(results, list) or not all(isinstance(row, dict) for row in results):
        raise DataError(f"{path}: expected a list of results, got {type(results).__name__}; use the COCO result format")
    for number, row in enumerate(results):
        missing = {"image_id", "category_id", "keypoints", "score"} - row.keys()
        if missing:
            raise DataError(f"{path}: result {number} lacks {sorted(missing)}; use the COCO *keypoint* result format")
    return results
