"""Matching of the persons of two frames: similarities and a greedy assignment."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from pose.evaluation.oks import oks
from pose.geometry import Array, iou
from pose.inference.poses import Poses


def match_greedily(similarity: ArrayLike, minimum: float) -> Iterator[tuple[int, int]]:
    """Yield pairs (row, column) of a similarity matrix, highest similarity first, each row and column at most once.

    Args:
        similarity: (N, M) at least 0.
        minimum: of a pair; positive.
    """
    left = np.array(similarity, dtype=np.float64)
    while left.size and left.max() >= minimum:
        row, column = np.unravel_index(left.argmax(), left.shape)
        yield int(row), int(column)
        left[row], left[:, column] = 0, 0


def pose_oks(poses: Poses, others: Poses, sigmas: ArrayLike) -> Array:
    """Return the OKS (N, M) of all pairs of persons, with the areas of their boxes."""
    areas, other_areas = box_areas(poses), box_areas(others)
    return oks(poses.keypoints[:, None], areas[:, None], others.keypoints, other_areas, sigmas)


def box_iou(poses: Poses, others: Poses) -> Array:
    """Return the intersection over union (N, M) of the boxes of all pairs of persons."""
    return iou(poses.bboxes_xywh[:, None], others.bboxes_xywh)


def box_areas(poses: Poses) -> Array:
    """Return the areas (N,) of the boxes in square image pixels."""
    return np.asarray(poses.bboxes_xywh[:, 2:].prod(axis=1), dtype=np.float64)
