"""One person found and followed by the pose net itself: keypoints on a video without any detector.

Where nobody is followed yet, the net looks into upright windows all over the frame; from then on into the box around
the keypoints of the frame before, and into the windows again when it loses the person.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.detectors import Detections
from pose.frame_sources import Frame
from pose.images import Image
from pose.predictor import Poses

Array = NDArray[np.float64]

SEEN = 0.3
"""Score of a keypoint that counts, and mean score of a person who does; noise stays below on the default model."""
MIN_KEYPOINTS = 5
"""Of them a box can be made: fewer are a limb or two of somebody at the frame's edge."""
MARGIN = 0.15
"""Keypoints end at eyes, wrists and ankles; annotated boxes go on around them by about this part of their size."""
WINDOW_ASPECT = 3 / 4
"""Width over height of a search window: that of the net's input."""
REFINEMENTS = 2
"""Looks into a box around the keypoints that the last look found, after a window."""


class PoseFunction(Protocol):
    """`pose.PosePredictor`, or what takes its place: a picture and its boxes xywh in, poses out."""

    def __call__(self, image: Image, boxes: ArrayLike) -> Poses: ...


class PersonFollower:
    """Finds the most visible person of each frame; of several it keeps to the one it found first.

    Pictures that follow each other in no time (of a folder) are searched one by one.

    Args:
        predict: the pose net; it looks once into each frame of a person who is followed.
    """

    def __init__(self, predict: PoseFunction) -> None:
        self._predict = predict
        self._last: Array | None = None

    def __call__(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one box, of score 1, or none for each frame; call it with all frames in order."""
        return [self._detect(frame) for frame in frames]

    def _detect(self, frame: Frame) -> Detections:
        if frame.time_s is None:
            self._last = None
        found = None if self._last is None else self._look(frame.image, self._last[None])
        self._last = self._search(frame.image) if found is None else found
        boxes = np.zeros((0, 4)) if self._last is None else self._last[None]
        return Detections(boxes, np.ones(len(boxes)))

    def _search(self, image: Image) -> Array | None:
        found = self._look(image, search_windows(image.shape[1], image.shape[0]))
        for _ in range(REFINEMENTS):
            found = None if found is None else self._look(image, found[None])
        return found

    def _look(self, image: Image, boxes_xywh: Array) -> Array | None:
        """Return the box around the person seen best in any of the boxes; None for nobody."""
        poses = self._predict(image, boxes_xywh)
        best = int(poses.person_scores.argmax())
        seen = poses.person_scores[best] >= SEEN
        return keypoint_box(poses.keypoints[best], poses.scores[best]) if seen else None


def search_windows(width: int, height: int) -> Array:
    """Return boxes (N, 4) xywh: the whole frame, and upright windows as large as fit, half a window apart."""
    window_w, window_h = min(width, height * WINDOW_ASPECT), min(height, width / WINDOW_ASPECT)
    columns = np.linspace(0, width - window_w, 1 + int(np.ceil(2 * (width - window_w) / window_w)))
    rows = np.linspace(0, height - window_h, 1 + int(np.ceil(2 * (height - window_h) / window_h)))
    windows = [(left, top, window_w, window_h) for top in rows for left in columns]
    return np.array([(0, 0, width, height), *windows], dtype=np.float64)


def keypoint_box(keypoints_image: NDArray[np.float32], scores: NDArray[np.float32]) -> Array | None:
    """Return the box xywh of a person whose (K, 2) keypoints with (K,) scores are known; None if too few are seen."""
    seen = keypoints_image[scores > SEEN].astype(np.float64)
    if len(seen) < MIN_KEYPOINTS:
        return None
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = MARGIN * (high - low).max()
    return np.concatenate([low - margin, high - low + 2 * margin])
