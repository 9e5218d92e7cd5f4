"""Predicted persons as arrays, and COCO keypoint result files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.datasets.coco_json import Result as Result
from pose.errors import DataError
from pose.evaluation.oks import oks_nms, rescore
from pose.files import write_json
from pose.geometry import Array


@dataclass(frozen=True)
class Predictions:
    """N predicted persons from any number of images, in any order.

    Attributes:
        image_ids: (N,) integers.
        keypoints_image: (N, K, 2) x, y in image pixels.
        keypoint_scores: (N, K) heatmap peak values.
        box_scores: (N,) detector scores; 1 for ground-truth boxes.
        areas: (N,) areas of the padded views in square image pixels.
    """

    image_ids: NDArray[np.integer]
    keypoints_image: NDArray[np.floating]
    keypoint_scores: NDArray[np.floating]
    box_scores: NDArray[np.floating]
    areas: NDArray[np.floating]

    def __len__(self) -> int:
        """Return N, the number of persons."""
        return len(self.image_ids)


def to_results(
    predictions: Predictions,
    sigmas: Sequence[float],
    keypoint_threshold: float = 0.2,
    nms_threshold: float = 0.9,
    category_id: int = 1,
) -> list[Result]:
    """Rescore the persons, apply OKS-NMS per image, and return COCO keypoint results.

    The result does not depend on the order of the persons: it is sorted by image id, then by descending score; ties are
    broken by the coordinates.

    Args:
        predictions: all persons of the dataset.
        sigmas: K OKS constants.
        keypoint_threshold: keypoint scores above it count in the person score (`pose.evaluation.oks.rescore`).
        nms_threshold: OKS above which the person with the lower score is dropped.
        category_id: category of the persons in the annotation file.

    Raises:
        DataError: a coordinate or score is not finite.
    """
    scores = rescore(predictions.box_scores, predictions.keypoint_scores, keypoint_threshold)
    _require_finite(predictions, scores)
    kept = [np.empty(0, dtype=np.intp)]
    for rows in _rows_by_image(predictions):
        keep = oks_nms(predictions.keypoints_image[rows], predictions.areas[rows], scores[rows], nms_threshold, sigmas)
        kept.append(rows[keep])
    rows = np.concatenate(kept)
    image_ids: list[int] = predictions.image_ids[rows].tolist()
    return format_results(
        image_ids, predictions.keypoints_image[rows], predictions.keypoint_scores[rows], scores[rows], category_id
    )


def _require_finite(predictions: Predictions, scores: Array) -> None:
    finite = np.isfinite(scores) & np.isfinite(predictions.keypoints_image).all(axis=(1, 2))
    finite &= np.isfinite(predictions.keypoint_scores).all(axis=1) & np.isfinite(predictions.areas)
    if not finite.all():
        raise DataError(
            f"predictions: expected finite coordinates and scores, got {int((~finite).sum())} of {len(finite)} persons "
            f"with NaN or infinity (first in image {predictions.image_ids[~finite][0]}); are the weights damaged?"
        )


def _rows_by_image(predictions: Predictions) -> list[NDArray[np.intp]]:
    """Return the row indices of each image, in an order that does not depend on the input order."""
    if not len(predictions):
        return []
    coordinates = predictions.keypoints_image.reshape(len(predictions), -1)
    # lexsort sorts by its last key first.
    order = np.lexsort((*coordinates.T, predictions.image_ids))
    return np.split(order, np.flatnonzero(np.diff(predictions.image_ids[order])) + 1)


def format_results(
    image_ids: Sequence[int],
    keypoints_image: ArrayLike,
    keypoint_scores: ArrayLike,
    scores: ArrayLike,
    category_id: int,
) -> list[Result]:
    """Return N persons as rows of a result file.

    Args:
        image_ids: N integers.
        keypoints_image: (N, K, 2) x, y in image pixels.
        keypoint_scores: (N, K).
        scores: (N,) person scores.
        category_id: category of the persons in the annotation file.
    """
    # Rounding to a thousandth of a pixel is negligible in the OKS of even the smallest person. Scores decide the
    # ranking and keep more digits.
    xy = np.asarray(keypoints_image, dtype=np.float64).round(3)
    peaks = np.asarray(keypoint_scores, dtype=np.float64).round(4)
    numbers = np.concatenate([xy, peaks[..., None]], axis=-1).reshape(len(peaks), 3 * peaks.shape[1])
    columns = image_ids, numbers.tolist(), np.asarray(scores, dtype=np.float64).tolist()
    return [
        {"image_id": image_id, "category_id": category_id, "keypoints": keypoints, "score": round(score, 8)}
        for image_id, keypoints, score in zip(*columns, strict=True)
    ]


def write_results(results: Sequence[Result], path: Path) -> None:
    """Write a result file atomically; a missing folder is created."""
    write_json(path, list(results))
