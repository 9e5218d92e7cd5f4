"""A detector in every Nth frame only: in between, boxes come from the keypoints of the frame before.

A detector takes about as long as the pose model does for one person, and persons move little from frame to frame. Who
enters is found at the next detection. Who is lost in between is searched again there, too.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from pose.inference.detectors import Detections
from pose.inference.duplicates import MAX_OKS
from pose.inference.predictor import CropPredictor
from pose.inference.search import MIN_KEYPOINT_SCORE, keypoint_box
from pose.video.pipeline import DetectFunction, FramePoses, without_duplicates
from pose.video.readers import Frame


def estimate_between_detections(
    frames: Iterable[Frame], detect: DetectFunction, predictor: CropPredictor, detect_every: int
) -> Iterator[FramePoses]:
    """Yield each frame with the poses of its persons, in order; images of a folder are all detected in.

    Args:
        frames: in order.
        detect: returns the person boxes; called with one frame.
        predictor: returns the keypoints.
        detect_every: frames from one detection to the next.
    """
    following = Detections(np.zeros((0, 4)), np.zeros(0))
    for number, frame in enumerate(frames):
        is_detected = frame.time_s is None or number % detect_every == 0
        bboxes_xywh, box_scores = detect([frame])[0] if is_detected else following
        poses = predictor.predict_batch([frame.image], [bboxes_xywh])[0]
        if not is_detected:
            visible = poses.person_scores >= MIN_KEYPOINT_SCORE
            poses, box_scores = poses[visible], box_scores[visible]
        result = FramePoses(frame, poses, box_scores * poses.person_scores)
        result = without_duplicates(result, predictor.skeleton, MAX_OKS)
        yield result
        following = _boxes_around(result)


def _boxes_around(result: FramePoses) -> Detections:
    """Return boxes around the keypoints, of those persons who have enough visible ones, with their box scores."""
    _, poses, scores = result
    boxes = [keypoint_box(*person) for person in zip(poses.keypoints, poses.scores, strict=True)]
    kept = [index for index, box in enumerate(boxes) if box is not None]
    box_scores = (scores / np.maximum(poses.person_scores, 1e-6))[kept]
    return Detections(np.array([boxes[index] for index in kept]).reshape(-1, 4), box_scores)
