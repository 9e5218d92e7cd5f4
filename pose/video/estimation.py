"""The pose pipeline of `predict` and `demo_video`: detection or single-person tracking, numbers, smoothing."""

from collections.abc import Iterable, Iterator

from pose.inference.duplicates import MAX_OKS
from pose.inference.predictor import CropPredictor
from pose.video.identities import assign_ids
from pose.video.pipeline import DetectFunction, EstimateFunction, FramePoses, estimate_poses
from pose.video.propagation import estimate_between_detections
from pose.video.readers import Frame
from pose.video.smoothing import smooth_poses
from pose.video.tracking import track_person


def make_estimate(
    predictor: CropPredictor,
    detect: DetectFunction | None,
    *,
    detect_every: int = 1,
    batch_frames: int = 8,
    max_oks: float | None = MAX_OKS,
    track: bool = True,
    smooth: bool = False,
) -> EstimateFunction:
    """Return the function from frames to poses.

    Args:
        predictor: returns the keypoints of boxes.
        detect: returns the persons of frames; None: the pose model finds and tracks one person.
        detect_every: frames from one detection to the next; in between, boxes come from the last keypoints.
        batch_frames: number of frames that are detected in together, if each is.
        max_oks: of two persons with a higher OKS the one with the lower score is removed; None: all persons are kept.
        track: number the persons of a video.
        smooth: smooth the keypoints of a video over time.
    """
    sigmas = predictor.skeleton.sigmas

    def estimate(frames: Iterable[Frame]) -> Iterator[FramePoses]:
        if detect is None:
            results = track_person(frames, predictor, predictor.without_flip())
        elif detect_every > 1:
            results = estimate_between_detections(frames, detect, predictor, detect_every)
        else:
            results = estimate_poses(frames, detect, predictor, batch_frames, max_oks)
        if track:
            results = assign_ids(results, sigmas)
        return smooth_poses(results, sigmas) if smooth else results

    return estimate
