"""From frames to drawn frames: boxes, keypoints, drawing and files, a few frames at a time.

People of several frames share the predictor's batches; frames with nobody pass through as they are. Frames are read,
and drawn and written, in threads beside the one that runs the models. A long video needs no more memory than a short one:
only some frames ahead of the models and some behind them are alive at once.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.datasets.coco_json import read_detections
from pose.errors import DataError
from pose.images import Image
from pose.inference.detectors import Detections, Detector
from pose.inference.predictor import Poses
from pose.inference.visualize import draw_poses
from pose.progress import ProgressLine
from pose.skeleton import Skeleton
from pose.video.prefetch import background_writer, prefetch
from pose.video.readers import Frame, FrameSource
from pose.video.writers import ImageWriter, PoseWriter

AHEAD = 8
"""Frames that are read ahead of the models, and that wait behind them to be drawn and written, at most."""


class Predictor(Protocol):
    """What `estimate_poses` needs of `pose.PosePredictor`."""

    def predict_batch(self, images: Sequence[Image], boxes: Sequence[ArrayLike]) -> list[Poses]: ...


class FramePoses(NamedTuple):
    """A frame, the poses of its people, and their scores (N,): box score times mean keypoint score."""

    frame: Frame
    poses: Poses
    scores: NDArray[np.float64]


DetectFunction = Callable[[Sequence[Frame]], list[Detections]]
EstimateFunction = Callable[[Iterable[Frame]], Iterator[FramePoses]]


def detect_with(detector: Detector) -> DetectFunction:
    """Look for people with a detector."""
    return lambda frames: detector([frame.image for frame in frames])


def read_boxes(path: Path, source: FrameSource, score_threshold: float = 0.0) -> DetectFunction:
    """Take people from a file in COCO result format: ``image_id``, ``category_id`` (1), ``bbox`` xywh, ``score``.

    ``image_id`` is a video's frame index from 0; of images the number that is the file's name
    (``000000000139.jpg``: 139), else its place among the sorted names, from 0. `tools/detect.py` writes such a file.

    Raises:
        DataError: the file is missing or of another layout, or none of its boxes lies on a frame of the source.
    """
    rows = [row for row in read_detections(path) if row["category_id"] == 1 and row["score"] >= score_threshold]
    for row in rows:
        if len(row["bbox"]) != 4 or not np.isfinite(row["bbox"]).all() or min(row["bbox"][2:]) <= 0:
            raise DataError(f"{path}: expected boxes [x, y, width, height] of positive size, got {row['bbox']}")
    ids = {row["image_id"] for row in rows}
    if ids and source.image_ids is not None and ids.isdisjoint(source.image_ids):
        raise DataError(
            f"{path}: none of its image ids ({min(ids)} to {max(ids)}) is a frame of {source.location} "
            f"({min(source.image_ids)} to {max(source.image_ids)}); frames are counted from 0"
        )
    people = {image_id: _detections([row for row in rows if row["image_id"] == image_id]) for image_id in ids}
    nobody = _detections([])
    return lambda frames: [people.get(frame.image_id, nobody) for frame in frames]


def _detections(rows: Sequence[Mapping[str, Any]]) -> Detections:
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    return Detections(boxes, np.array([row["score"] for row in rows], dtype=np.float64))


def estimate_poses(
    frames: Iterable[Frame], detect: DetectFunction, predictor: Predictor, batch_frames: int = 8
) -> Iterator[FramePoses]:
    """Yield every frame with its poses, in order, looking at ``batch_frames`` at a time."""
    iterator = iter(frames)
    while chunk := list(islice(iterator, batch_frames)):
        found = detect(chunk)
        boxes = [detections.bboxes_xywh for detections in found]
        poses = predictor.predict_batch([frame.image for frame in chunk], boxes)
        for frame, people, detections in zip(chunk, poses, found, strict=True):
            yield FramePoses(frame, people, detections.scores * people.person_scores)


def run_demo(
    source: FrameSource,
    estimate: EstimateFunction,
    skeleton: Skeleton,
    sink: ImageWriter,
    json_sink: PoseWriter | None = None,
    *,
    keypoint_threshold: float = 0.3,
    max_frames: int | None = None,
) -> tuple[int, int]:
    """Find, draw and write the people of every frame.

    An error in reading, drawing or writing ends it like an error in the models.

    Args:
        source: of the frames; a live one (camera) ends at Ctrl-C with everything so far written.
        estimate: `estimate_poses` or `pose.video.tracking.track_person`, but for their frames.
        skeleton: of the keypoints.
        sink: takes the drawn frames (`pose.video.writers.open_writer`), in another thread.
        json_sink: takes the keypoints (`pose.video.writers.open_json_writer`), in another thread.
        keypoint_threshold: keypoints scored lower are not drawn; the JSON holds all.
        max_frames: stop after so many.

    Returns:
        Numbers of frames and of persons.
    """

    def write(result: FramePoses) -> None:
        frame, poses, scores = result
        sink(frame, draw_poses(frame.image, poses, skeleton, scores=scores, keypoint_threshold=keypoint_threshold))
        if json_sink is not None:
            json_sink(frame, poses, scores)

    total = source.count if max_frames is None else min(max_frames, source.count or max_frames)
    count = persons = 0
    with (
        ProgressLine("demo", total, "frames") as progress,
        closing(prefetch(islice(source, max_frames), AHEAD)) as ahead,
        background_writer(write, AHEAD) as write_later,
    ):
        for result in estimate(ahead if source.count is not None else _until_interrupted(ahead)):
            write_later(result)
            count, persons = count + 1, persons + len(result.scores)
            progress.advance(persons=str(len(result.scores)))
    return count, persons


def _until_interrupted(frames: Iterable[Frame]) -> Iterator[Frame]:
    """End at Ctrl-C instead of raising: that is how a recording is stopped."""
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
