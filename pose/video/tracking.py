"""Single-person tracking with the pose model alone, without a detector.

While no person is tracked, the model searches upright windows that cover the frame. Once a person is found, it runs in
the box around the keypoints of the previous frame, and searches again when the person is lost.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from pose.inference.predictor import CropPredictor
from pose.inference.search import best_person, search_person
from pose.video.pipeline import FramePoses
from pose.video.readers import Frame

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
            person = best_person(predictor.predict_batch([frame.image], [box])[0])
        if person is None and (box is not None or frame.time_s is None or frame.index % SEARCH_INTERVAL == 0):
            person = search_person(frame.image, predictor, search_predictor)
        box = None if person is None else person.bboxes_xywh
        poses = predictor.predict_batch([frame.image], [np.zeros((0, 4))])[0] if person is None else person
        yield FramePoses(frame, poses, poses.person_scores.astype(np.float64))
