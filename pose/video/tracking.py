"""One person found and followed by the pose model itself: keypoints on a video without any detector.

Where nobody is followed yet, the model looks into upright windows all over the frame; from then on into the box around
the keypoints of the frame before, and into the windows again when it loses the person.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.geometry import Array
from pose.images import Image
from pose.inference.predictor import Poses
from pose.video.pipeline import FramePoses
from pose.video.readers import Frame

SEEN = 0.3
"""Score of a keypoint that counts, and mean score of a person who does; noise stays below on the default model."""
MIN_KEYPOINTS = 5
"""Of them a box can be made: fewer are a limb or two of somebody at the frame's edge."""
MARGIN = 0.15
"""Keypoints end at eyes, wrists and ankles; annotated boxes go on around them by about this part of their size."""
WINDOW_ASPECT = 3 / 4
"""Width over height of a search window: that of the model's input."""
REFINEMENTS = 2
"""Looks into a box around the keypoints that the last look found, after a window."""
SEARCH_EVERY = 3
"""Frames of a video between two searches while nobody is there: a search costs more than to follow somebody."""


class PoseFunction(Protocol):
    """`pose.PosePredictor`, or what takes its place: an image and its boxes xywh in, poses out."""

    def __call__(self, image: Image, boxes: ArrayLike) -> Poses: ...


def track_person(frames: Iterable[Frame], predict: PoseFunction, look: PoseFunction) -> Iterator[FramePoses]:
    """Yield every frame with the most visible person, or nobody; of several people it keeps to whom it found first.

    Boxes are those around the keypoints found, with a margin. Images that follow each other in no time (of a folder)
    are searched one by one.

    Args:
        frames: in order.
        predict: finds the keypoints to give.
        look: finds those that lead there, in many boxes at once; may be the cheaper (without flip average).
    """
    box = None
    for frame in frames:
        person = None
        if frame.time_s is None:
            box = None
        if box is not None:
            person = _best(predict(frame.image, box))
        if person is None and (box is not None or frame.time_s is None or frame.index % SEARCH_EVERY == 0):
            found = _search(frame.image, look)
            person = None if found is None else _best(predict(frame.image, found.bboxes_xywh))
        box = None if person is None else person.bboxes_xywh
        poses = predict(frame.image, np.zeros((0, 4))) if person is None else person
        yield FramePoses(frame, poses, poses.person_scores.astype(np.float64))


def _search(image: Image, look: PoseFunction) -> Poses | None:
    """Return the person seen best in any window, come closer to in a few looks; None for nobody."""
    person = _best(look(image, search_windows(image.shape[1], image.shape[0])))
    for _ in range(REFINEMENTS):
        person = None if person is None else _best(look(image, person.bboxes_xywh))
    return person


def _best(poses: Poses) -> Poses | None:
    """Return the person seen best in any of the boxes, in the box around the keypoints; None for nobody."""
    best = int(poses.person_scores.argmax())
    box = keypoint_box(poses.keypoints[best], poses.scores[best])
    if box is None or poses.person_scores[best] < SEEN:
        return None
    return Poses(poses.keypoints[[best]], poses.scores[[best]], box[None].astype(np.float32))


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
