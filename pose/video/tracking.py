"""Single-person tracking with the pose model alone, without a detector.

While no person is tracked, the model searches upright windows that cover the frame. Once a person is found, it runs in
the box around the keypoints of the previous frame, and searches again when the person is lost.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from pose.geometry import Array, Float32
from pose.images import Image
from pose.inference.predictor import CropPredictor, Poses
from pose.video.pipeline import FramePoses
from pose.video.readers import Frame

MIN_KEYPOINT_SCORE = 0.3
"""Minimum score of a visible keypoint, and minimum mean score of a person; the default model's noise is below it."""
MIN_KEYPOINTS = 5
"""Minimum number of visible keypoints for a box; fewer are a limb or two at the edge of the frame."""
MARGIN = 0.15
"""Margin around the keypoints, relative to their extent: annotated boxes exceed eyes, wrists and ankles by about it."""
WINDOW_ASPECT = 3 / 4
"""Width / height of a search window, as of the model's input."""
REFINEMENTS = 2
"""Forward passes after the search windows, each in the box around the keypoints of the previous one."""
SEARCH_INTERVAL = 3
"""Frames from one search to the next while no person is found: a search costs more than tracking."""


def track_person(
    frames: Iterable[Frame], predictor: CropPredictor, search_predictor: CropPredictor
) -> Iterator[FramePoses]:
    """Yield each frame with one tracked person, or with none.

    The most visible person is tracked until it is lost, whoever else appears. The boxes of the result enclose the
    keypoints, with a margin. Images of a folder are searched independently.

    Args:
        frames: in order.
        predictor: returns the keypoints of the result.
        search_predictor: runs in the search windows, many per batch; may be a faster one (without flip averaging).
    """
    box = None
    for frame in frames:
        person = None
        if frame.time_s is None:
            box = None
        if box is not None:
            person = _best_person(predictor(frame.image, box))
        if person is None and (box is not None or frame.time_s is None or frame.index % SEARCH_INTERVAL == 0):
            candidate = _search(frame.image, search_predictor)
            person = None if candidate is None else _best_person(predictor(frame.image, candidate.bboxes_xywh))
        box = None if person is None else person.bboxes_xywh
        poses = predictor(frame.image, np.zeros((0, 4))) if person is None else person
        yield FramePoses(frame, poses, poses.person_scores.astype(np.float64))


def _search(image: Image, search_predictor: CropPredictor) -> Poses | None:
    """Return the most visible person of all search windows, refined by further forward passes, or None."""
    person = _best_person(search_predictor(image, search_windows(image.shape[1], image.shape[0])))
    for _ in range(REFINEMENTS):
        person = None if person is None else _best_person(search_predictor(image, person.bboxes_xywh))
    return person


def _best_person(poses: Poses) -> Poses | None:
    """Return the person with the highest score, in the box around its keypoints, or None if the score is too low."""
    best = int(poses.person_scores.argmax())
    box = keypoint_box(poses.keypoints[best], poses.scores[best])
    if box is None or poses.person_scores[best] < MIN_KEYPOINT_SCORE:
        return None
    return Poses(poses.keypoints[[best]], poses.scores[[best]], box[None].astype(np.float32))


def search_windows(width: int, height: int) -> Array:
    """Return search boxes (N, 4) xywh: the whole frame, and upright windows of maximum size, half a window apart."""
    window_w, window_h = min(width, height * WINDOW_ASPECT), min(height, width / WINDOW_ASPECT)
    lefts = np.linspace(0, width - window_w, 1 + int(np.ceil(2 * (width - window_w) / window_w)))
    tops = np.linspace(0, height - window_h, 1 + int(np.ceil(2 * (height - window_h) / window_h)))
    windows = [(left, top, window_w, window_h) for top in tops for left in lefts]
    return np.array([(0, 0, width, height), *windows], dtype=np.float64)


def keypoint_box(keypoints_image: Float32, scores: Float32) -> Array | None:
    """Return the box (4,) xywh around visible keypoints, with a margin, or None if too few are visible.

    Args:
        keypoints_image: (K, 2).
        scores: (K,).
    """
    visible = keypoints_image[scores > MIN_KEYPOINT_SCORE].astype(np.float64)
    if len(visible) < MIN_KEYPOINTS:
        return None
    low, high = visible.min(axis=0), visible.max(axis=0)
    margin = MARGIN * (high - low).max()
    return np.concatenate([low - margin, high - low + 2 * margin])
