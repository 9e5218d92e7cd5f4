"""Search for one person in an image with the pose model alone, without a detector.

The model runs in upright windows that cover the image, and then in the box around the keypoints it has found.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pose.geometry import Array, Float32
from pose.images import Image

if TYPE_CHECKING:
    from pose.inference.poses import Poses
    from pose.inference.predictor import CropPredictor

MIN_KEYPOINT_SCORE = 0.3
"""Minimum score of a visible keypoint, and minimum mean score of a person; the default model's noise is below it."""
MIN_KEYPOINTS = 5
"""Minimum number of visible keypoints for a box, or half of a smaller set; fewer are a limb or two at the edge of the
frame."""
MARGIN = 0.15
"""Margin around the keypoints, relative to their extent: annotated boxes exceed eyes, wrists and ankles by about it."""
MIN_EXTENT = 0.5
"""Minimum extent of a person in pixels."""
WINDOW_ASPECT = 3 / 4
"""Width / height of a search window, as of the model's input."""
MAX_WINDOWS = 64
"""Maximum number of search windows along an image, 24:1 at most; in a longer one the windows grow."""
REFINEMENTS = 2
"""Forward passes after the search windows, each in the box around the keypoints of the previous one."""


def search_person(image: Image, predictor: "CropPredictor", search_predictor: "CropPredictor") -> "Poses | None":
    """Return the most visible person of an image, in the box around its keypoints, or None.

    Args:
        image: (H, W, 3) uint8 BGR.
        predictor: returns the keypoints of the result.
        search_predictor: runs in the search windows, many per batch; may be a faster one (without flip averaging).
    """
    boxes: Array | Float32 = search_windows(image.shape[1], image.shape[0])
    for _ in range(1 + REFINEMENTS):
        person = best_person(search_predictor.predict_batch([image], [boxes])[0])
        if person is None:
            return None
        boxes = person.bboxes_xywh
    return best_person(predictor.predict_batch([image], [boxes])[0])


def best_person(poses: "Poses") -> "Poses | None":
    """Return the person with the highest score, in the box around its keypoints, or None if the score is too low."""
    best = int(poses.person_scores.argmax())
    box = keypoint_box(poses.keypoints[best], poses.scores[best])
    if box is None or poses.person_scores[best] < MIN_KEYPOINT_SCORE:
        return None
    return replace(
        poses,
        keypoints=poses.keypoints[[best]],
        scores=poses.scores[[best]],
        bboxes_xywh=box[None].astype(np.float32),
    )


def search_windows(width: int, height: int) -> Array:
    """Return search boxes (N, 4) xywh: the whole frame, and upright windows of maximum size, half a window apart.

    An image so long that this would give more than `MAX_WINDOWS` has larger windows, which exceed its short side.
    """
    shortest = 2 * max(width, height * WINDOW_ASPECT) / (MAX_WINDOWS + 1)
    window_w = max(min(width, height * WINDOW_ASPECT), shortest)
    window_h = max(min(height, width / WINDOW_ASPECT), shortest / WINDOW_ASPECT)
    windows = [
        (left, top, window_w, window_h) for top in _starts(height, window_h) for left in _starts(width, window_w)
    ]
    return np.array([(0, 0, width, height), *windows], dtype=np.float64)


def _starts(length: int, window: float) -> Array:
    """Return where windows begin along one axis: half a window apart, or one in the center of a shorter image."""
    rest = length - window
    return np.linspace(0, rest, 1 + int(np.ceil(2 * rest / window))) if rest > 0 else np.array([rest / 2])


def keypoint_box(keypoints_image: Float32, scores: Float32) -> Array | None:
    """Return the box (4,) xywh around visible keypoints, with a margin, or None if too few are visible.

    Args:
        keypoints_image: (K, 2).
        scores: (K,).
    """
    visible = keypoints_image[scores > MIN_KEYPOINT_SCORE].astype(np.float64)
    if len(visible) < max(2, min(MIN_KEYPOINTS, (len(scores) + 1) // 2)):
        return None
    low, high = visible.min(axis=0), visible.max(axis=0)
    margin = MARGIN * (high - low).max()
    if margin < MARGIN * MIN_EXTENT:
        return None  # all keypoints in one place
    return np.concatenate([low - margin, high - low + 2 * margin])
