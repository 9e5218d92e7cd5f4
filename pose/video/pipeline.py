"""Video pipeline: read frames, detect persons, predict keypoints, draw and write.

Persons of several frames share the predictor's batches; frames without persons are written unchanged. One thread
prefetches frames, another draws and writes them, while the main thread runs the models. Memory use does not depend on
the length of the video: at most `MAX_QUEUED_FRAMES` frames wait before the models and as many after them.
"""

import signal
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Literal, NamedTuple

import numpy as np

from pose.datasets.coco_json import DetectionRow, read_detections
from pose.errors import DataError
from pose.geometry import Array, is_empty
from pose.inference.detectors import Detections, Detector
from pose.inference.duplicates import distinct_persons
from pose.inference.poses import Poses
from pose.inference.predictor import CropPredictor
from pose.inference.visualize import draw_poses
from pose.progress import ProgressLine
from pose.skeleton import Skeleton
from pose.video.prefetch import background_writer, prefetch
from pose.video.readers import Frame, FrameSource
from pose.video.window import Window
from pose.video.writers import ImageWriter, PoseWriter

MAX_QUEUED_FRAMES = 8
"""Maximum number of prefetched frames, and of frames that wait to be drawn and written."""


class FramePoses(NamedTuple):
    """The poses in one frame.

    Attributes:
        frame: the frame.
        poses: its N persons.
        scores: (N,) person scores: box score times mean keypoint score; of a tracked person the mean keypoint score.
    """

    frame: Frame
    poses: Poses
    scores: Array


class DemoSummary(NamedTuple):
    """What a demo has processed; as text ``300 frames, 4 people``.

    Attributes:
        kind: kind of the source.
        frames: number of frames or images.
        poses: number of poses in all frames together.
        most: largest number of persons in one frame.
        people: number of different persons in a video; None without tracking.
    """

    kind: str
    frames: int
    poses: int
    most: int
    people: int | None

    def __str__(self) -> str:
        if self.kind in ("image", "folder"):
            return f"{_count(self.frames, 'image')}, {_count(self.poses, 'person', 'people')}"
        if self.people is None:
            return f"{_count(self.frames, 'frame')}, up to {_count(self.most, 'person', 'people')} at once"
        return f"{_count(self.frames, 'frame')}, {_count(self.people, 'person', 'people')}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


DetectFunction = Callable[[Sequence[Frame]], list[Detections]]
"""Function from a chunk of frames to the persons in each."""
EstimateFunction = Callable[[Iterable[Frame]], Iterator[FramePoses]]
"""Function from the frames of a source to the same frames with their poses, in order."""


def detect_with(detector: Detector) -> DetectFunction:
    """Return a function that detects the persons of frames with a detector."""
    return lambda frames: detector([frame.image for frame in frames])


def read_boxes(path: Path, source: FrameSource, score_threshold: float = 0.0) -> DetectFunction:
    """Return a function that takes the persons of frames from a file in COCO result format.

    Each row has ``image_id``, ``category_id`` (1 for persons; other rows are ignored), ``bbox`` (xywh) and ``score``.
    ``image_id`` is the frame index in a video, from 0. For image files it is the number in the file name
    (``000000000139.jpg``: 139), otherwise the index among the sorted file names, from 0. `dyconv-pose detect` writes
    such a file.

    Args:
        path: the JSON file.
        source: the frames that the boxes belong to.
        score_threshold: minimum box score.

    Raises:
        DataError: the file is missing or malformed, or none of its image ids is a frame of the source.
    """
    by_image: dict[int, list[DetectionRow]] = defaultdict(list)
    for row in read_detections(path):
        if row.category_id == 1 and row.score >= score_threshold:
            if is_empty(row.bbox):
                raise DataError(
                    f"{path}: expected boxes [x, y, width, height] of positive size, got {list(row.bbox)} in image "
                    f"{row.image_id}; remove it"
                )
            by_image[row.image_id].append(row)
    ids = by_image.keys()
    if ids and source.image_ids is not None and ids.isdisjoint(source.image_ids):
        raise DataError(
            f"{path}: none of its image ids ({min(ids)} to {max(ids)}) is a frame of {source.location} "
            f"({min(source.image_ids)} to {max(source.image_ids)}); frames are counted from 0"
        )
    detections = {image_id: _to_detections(rows) for image_id, rows in by_image.items()}
    empty = _to_detections([])
    return lambda frames: [detections.get(frame.image_id, empty) for frame in frames]


def _to_detections(rows: Sequence[DetectionRow]) -> Detections:
    boxes = np.array([row.bbox for row in rows], dtype=np.float64).reshape(-1, 4)
    return Detections(boxes, np.array([row.score for row in rows], dtype=np.float64))


def estimate_poses(
    frames: Iterable[Frame],
    detect: DetectFunction,
    predictor: CropPredictor,
    batch_frames: int = 8,
    max_oks: float | None = None,
) -> Iterator[FramePoses]:
    """Yield each frame with the poses of all its persons, in order.

    Args:
        frames: in order.
        detect: returns the person boxes.
        predictor: returns the keypoints.
        batch_frames: number of frames to process together.
        max_oks: of two persons who are more alike, one is dropped (`pose.inference.duplicates`); None keeps all, as for
            boxes that the user gives.
    """
    iterator = iter(frames)
    while chunk := list(islice(iterator, batch_frames)):
        detections = detect(chunk)
        boxes = [in_frame.bboxes_xywh for in_frame in detections]
        predictions = predictor.predict_batch([frame.image for frame in chunk], boxes)
        for frame, poses, in_frame in zip(chunk, predictions, detections, strict=True):
            result = FramePoses(frame, poses, in_frame.scores * poses.person_scores)
            yield result if max_oks is None else without_duplicates(result, predictor.skeleton, max_oks)


def without_duplicates(result: FramePoses, skeleton: Skeleton, max_oks: float) -> FramePoses:
    """Return a frame without the persons that are more alike than ``max_oks`` to one of higher score."""
    _, poses, scores = result
    kept = distinct_persons(poses.keypoints, poses.bboxes_xywh, scores, skeleton.sigmas, max_oks)
    if len(kept) == len(poses):
        return result
    return result._replace(poses=poses[kept], scores=scores[kept])


def run_demo(
    source: FrameSource,
    estimate: EstimateFunction,
    skeleton: Skeleton,
    image_writer: ImageWriter | None,
    json_writer: PoseWriter | None = None,
    *,
    keypoint_threshold: float = 0.3,
    color: Literal["side", "person"] = "side",
    background: Literal["image", "black"] = "image",
    side_by_side: bool = False,
    window: Window | None = None,
    max_frames: int | None = None,
) -> DemoSummary:
    """Estimate, draw and write the poses of every frame of a source.

    An exception in reading, drawing or writing is raised here, like one in the models.

    Args:
        source: the frames; Ctrl-C ends a live source (camera) normally, and the outputs are completed.
        estimate: `estimate_poses` or `pose.video.tracking.track_person` with all arguments but the frames bound.
        skeleton: keypoint set.
        image_writer: writes the drawn frames (`pose.video.writers.open_writer`), called in another thread; None to
            draw nothing.
        json_writer: writes the keypoints (`pose.video.writers.open_json_writer`), called in another thread.
        keypoint_threshold: minimum score of keypoints to draw; the JSON contains all of them.
        color: as of `draw_poses`.
        background: draw on the frame, or on black.
        side_by_side: put the frame to the left of the drawing, which gives an image of twice the width.
        window: shows the newest image while the demo runs; closing it ends the demo normally.
        max_frames: maximum number of frames.
    """

    def write(result: FramePoses) -> None:
        frame, poses, scores = result
        if image_writer is not None or window is not None:
            canvas = np.zeros_like(frame.image) if background == "black" else frame.image
            image = draw_poses(
                canvas, poses, skeleton, scores=scores, keypoint_threshold=keypoint_threshold, color=color
            )
            if side_by_side:
                image = np.hstack([frame.image, image])
            if image_writer is not None:
                image_writer(frame, image)
            if window is not None:
                window.image = image
        if json_writer is not None:
            json_writer(frame, poses, scores)

    total = source.count if max_frames is None else min(max_frames, source.count or max_frames)
    count = poses = most = 0
    numbers: set[int] | None = None
    with (
        ProgressLine("predict", total, "frames") as progress,
        closing(prefetch(islice(source, max_frames), MAX_QUEUED_FRAMES)) as frames,
        background_writer(write, MAX_QUEUED_FRAMES) as submit,
    ):
        for result in estimate(frames if source.count is not None else _until_interrupted(frames)):
            submit(result)
            persons = len(result.poses)
            count, poses, most = count + 1, poses + persons, max(most, persons)
            if result.poses.ids is not None:
                numbers = (numbers or set()) | set(result.poses.ids.tolist())
            progress.advance(persons=str(persons))
            if window is not None and window.show():
                break
    return DemoSummary(source.kind, count, poses, most, None if numbers is None else len(numbers - {0}))


def _until_interrupted(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield frames until Ctrl-C, which ends a recording and raises nothing."""
    stopped = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    previous = signal.signal(signal.SIGINT, stop)
    try:
        for frame in frames:
            yield frame
            if stopped:
                return
    finally:
        signal.signal(signal.SIGINT, previous)
