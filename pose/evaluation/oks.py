"""Object keypoint similarity (OKS), the suppression of double persons by it, and a person's score.

Source: COCO's definition of OKS (cocoapi, ``computeOks``); suppression and score as in the public code of
SimpleBaseline and HRNet, on which published COCO figures rest.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.geometry import Array


def oks(keypoints: ArrayLike, area: ArrayLike, others: ArrayLike, areas: ArrayLike, sigmas: ArrayLike) -> Array:
    """Return the similarity of one person with others, mean over all K keypoints of exp(-d^2 / (2 s^2 (2 sigma)^2)).

    Leading axes broadcast, so that ``oks(p[:, None], a[:, None], p, a, sigmas)`` compares everybody with everybody.

    Args:
        keypoints: (K, 2 or 3) x, y and anything, in image pixels.
        area: of the person, in square image pixels; s^2 is the mean of both persons' areas.
        others: (N, K, 2 or 3).
        areas: (N,).
        sigmas: (K,) OKS constants.

    Returns:
        (N,) similarities in 0..1.
    """
    first, second = np.asarray(keypoints, dtype=np.float64), np.asarray(others, dtype=np.float64)
    squared_distance = (second[..., 0] - first[..., 0]) ** 2 + (second[..., 1] - first[..., 1]) ** 2
    scale = (np.asarray(area, dtype=np.float64) + np.asarray(areas, dtype=np.float64)) / 2 + np.spacing(1)
    variances = (2 * np.asarray(sigmas, dtype=np.float64)) ** 2
    similarity: Array = np.exp(-squared_distance / (2 * variances * scale[..., None])).mean(axis=-1)
    return similarity


def oks_nms(
    keypoints: ArrayLike, areas: ArrayLike, scores: ArrayLike, threshold: float, sigmas: ArrayLike
) -> NDArray[np.intp]:
    """Drop every person whose OKS with a better one exceeds ``threshold``.

    Args:
        keypoints: (N, K, 2 or 3) in image pixels, the persons of one image.
        areas: (N,) in square image pixels; the protocol takes the padded view's.
        scores: (N,) higher is better; equal scores keep their order.
        threshold: 0.9 in the protocol.
        sigmas: (K,) OKS constants.

    Returns:
        Indices of the persons kept, best first.
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    people, sizes = np.asarray(keypoints, dtype=np.float64)[order], np.asarray(areas, dtype=np.float64)[order]
    too_close = oks(people[:, None], sizes[:, None], people, sizes, sigmas) > threshold
    kept = np.ones(len(order), dtype=bool)
    for person in range(len(order)):
        if kept[person]:
            kept[person + 1 :] &= ~too_close[person, person + 1 :]
    return order[kept]


def rescore(box_scores: ArrayLike, keypoint_scores: ArrayLike, threshold: float = 0.2) -> Array:
    """Return each person's score: the box's times the mean of the keypoint peaks above ``threshold``.

    Args:
        box_scores: (N,) of the detector (1 for ground truth).
        keypoint_scores: (N, K) peaks of the heatmaps.
        threshold: peaks at or below it do not count.

    Returns:
        (N,) scores; 0 for a person without a peak above the threshold.
    """
    peaks = np.asarray(keypoint_scores, dtype=np.float64)
    strong = peaks > threshold
    mean_peak = np.where(strong, peaks, 0).sum(axis=1) / np.maximum(strong.sum(axis=1), 1)
    return np.asarray(np.asarray(box_scores, dtype=np.float64) * mean_peak)
