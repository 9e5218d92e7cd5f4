"""Object keypoint similarity (OKS), OKS-NMS and person rescoring.

Source: COCO's definition of OKS (cocoapi, ``computeOks``); NMS and rescoring as in the public code of SimpleBaseline
and HRNet, which published COCO results use.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.geometry import Array


def oks(keypoints: ArrayLike, area: ArrayLike, others: ArrayLike, areas: ArrayLike, sigmas: ArrayLike) -> Array:
    """Return the OKS of one person with others: the mean over all K keypoints of exp(-d^2 / (2 s^2 (2 sigma)^2)).

    Leading axes broadcast: ``oks(p[:, None], a[:, None], p, a, sigmas)`` compares all pairs of persons.

    Args:
        keypoints: (K, 2 or 3) x, y in image pixels; a third column is ignored.
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
    """OKS-NMS: drop every person whose OKS with a kept person of higher score exceeds ``threshold``.

    Args:
        keypoints: (N, K, 2 or 3) in image pixels, the persons of one image.
        areas: (N,) in square image pixels; the protocol uses the area of the padded view.
        scores: (N,); equal scores keep their order.
        threshold: 0.9 in the protocol.
        sigmas: (K,) OKS constants.

    Returns:
        Indices of the kept persons, highest score first.
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    people, person_areas = np.asarray(keypoints, dtype=np.float64)[order], np.asarray(areas, dtype=np.float64)[order]
    duplicate = oks(people[:, None], person_areas[:, None], people, person_areas, sigmas) > threshold
    kept = np.ones(len(order), dtype=bool)
    for person in range(len(order)):
        if kept[person]:
            kept[person + 1 :] &= ~duplicate[person, person + 1 :]
    return order[kept]


def rescore(box_scores: ArrayLike, keypoint_scores: ArrayLike, threshold: float = 0.2) -> Array:
    """Return the person scores: box score times the mean of the keypoint scores above ``threshold``.

    Args:
        box_scores: (N,) detector scores (1 for ground-truth boxes).
        keypoint_scores: (N, K) heatmap peak values.
        threshold: peaks at or below it are ignored.

    Returns:
        (N,) scores; 0 for a person without a peak above the threshold.
    """
    peaks = np.asarray(keypoint_scores, dtype=np.float64)
    above = peaks > threshold
    mean_peak = np.where(above, peaks, 0).sum(axis=1) / np.maximum(above.sum(axis=1), 1)
    return np.asarray(np.asarray(box_scores, dtype=np.float64) * mean_peak)
