"""Persons that a detector found twice: overlapping boxes whose keypoints end on the same person."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.evaluation.oks import oks_nms

MAX_OKS = 0.8
"""Maximum OKS of two persons. COCO's protocol has 0.9; skeletons of less than that still look like one drawn twice."""


def distinct_persons(
    keypoints: ArrayLike, bboxes_xywh: ArrayLike, scores: ArrayLike, sigmas: ArrayLike, max_oks: float = MAX_OKS
) -> NDArray[np.intp]:
    """Return the indices of the persons without duplicates, in order; the one of higher score is kept.

    Args:
        keypoints: (N, K, 2) in image pixels, the persons of one image.
        bboxes_xywh: (N, 4) in image pixels.
        scores: (N,) person scores.
        sigmas: (K,) OKS constants.
        max_oks: persons more alike than this are the same.
    """
    areas = np.asarray(bboxes_xywh, dtype=np.float64)[:, 2:].prod(axis=1)
    return np.sort(oks_nms(keypoints, areas, scores, max_oks, sigmas))
