"""A detector in every Nth frame: time per frame and AP of the video demo with ``--detect-every`` 1, 2, 5 and 10.

On a drawn clip of four people who walk past each other, with known boxes and keypoints; the default model in the
fastest runtime that is installed. Light detectors miss most drawn people, so the default detector returns the known
boxes after a fixed delay: AP lost is that of boxes from the keypoints of the frame before, not that of a detector.
``--detector`` runs a real one. Hidden people are not annotated and count as errors if they are still followed.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pose.cli.arguments import positive_count
from pose.evaluation.coco_ap import evaluate
from pose.evaluation.coco_results import Result, format_results
from pose.files import write_json
from pose.inference.detectors import Detections, load_detector
from pose.runtime.pose_predictor import PosePredictor
from pose.skeleton import COCO
from pose.video.estimation import make_estimate
from pose.video.opencv_files import open_video_writer
from pose.video.pipeline import DetectFunction, EstimateFunction, detect_with
from pose.video.readers import Frame, open_source

from . import Comparison, compare
from ._clip import CLIP_FPS, CLIP_WH, ClipFrame, walking_people
from ._synthetic import annotation, annotation_file
from ._timing import Budget, time_interleaved
from .video import Run

FRAMES = 60
EVERY = (1, 2, 5, 10)
DELAY_S = 0.03
"""Time of the detector that knows the boxes, in seconds a frame."""
BASE = "every frame"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the detector and the number of frames."""
    parser.add_argument("--detector", metavar="NAME|ONNX", help="see tools/demo_video.py (default: the known boxes)")
    parser.add_argument(
        "--frames", type=positive_count, default=FRAMES, help="frames of the clip (default: %(default)s)"
    )


def measure(
    budget: Budget, rng: np.random.Generator, *, detector: str | None = None, frames: int = FRAMES
) -> Iterator[Comparison]:
    """Time the demo with each N, one budget for all, and yield time per frame and AP of each against N = 1.

    Raises:
        MediaError: the detector cannot be opened.
    """
    clip = walking_people(frames)
    detect = known_boxes(clip, DELAY_S) if detector is None else detect_with(load_detector(detector, device="cpu"))
    predictor = PosePredictor(device="cpu")
    with TemporaryDirectory() as folder:
        video, annotations = write_clip(clip, Path(folder))
        estimates = {every: make_estimate(predictor, detect, detect_every=every) for every in EVERY}
        runs = {
            str(every): Run(video, Path(folder) / f"every{every}.mp4", frames, estimate).demo
            for every, estimate in estimates.items()
        }
        times = time_interleaved(runs, replace(budget, warmup=0), rng, time.perf_counter)
        precision = {every: _average_precision(video, estimates[every], annotations) for every in EVERY}
    for every in EVERY:
        case = f"detection in every {every} frames, {predictor.runtime}"
        yield compare(f"{case}, time a frame", times[str(every)] / frames, times["1"] / frames, BASE, rng)
        ours, base = np.array([precision[every]]), np.array([precision[1]])
        yield compare(f"{case}, AP", ours, base, BASE, rng, unit="AP")


def known_boxes(clip: Sequence[ClipFrame], delay_s: float) -> DetectFunction:
    """Return a detector that takes ``delay_s`` for a frame and finds exactly the annotated people."""

    def detect(frames: Sequence[Frame]) -> list[Detections]:
        time.sleep(delay_s * len(frames))
        boxes = [clip[frame.index].bboxes_xywh for frame in frames]
        return [Detections(in_frame, np.ones(len(in_frame))) for in_frame in boxes]

    return detect


def write_clip(clip: Sequence[ClipFrame], folder: Path) -> tuple[Path, Path]:
    """Write the clip as a video, and its people as COCO annotations with image ids from 1; returns both paths."""
    video, annotations = folder / "clip.mp4", folder / "annotations.json"
    writer = open_video_writer(video, "mp4v", CLIP_FPS, CLIP_WH)
    rows: list[dict[str, Any]] = []
    for image_id, frame in enumerate(clip, start=1):
        writer.write(frame.image)
        for bbox_xywh, keypoints in zip(frame.bboxes_xywh, frame.keypoints, strict=True):
            inside = ((keypoints >= 0) & (keypoints < CLIP_WH)).all(axis=1)
            rows.append(annotation(len(rows) + 1, image_id, bbox_xywh, keypoints, 2 * inside.astype(np.int64)))
    writer.release()
    write_json(annotations, annotation_file(len(clip), rows))
    return video, annotations


def _average_precision(video: Path, estimate: EstimateFunction, annotations: Path) -> float:
    results: list[Result] = []
    for frame, poses, scores in estimate(open_source(video)):
        image_ids = [frame.index + 1] * len(poses)
        results += format_results(image_ids, poses.keypoints, poses.scores, scores, 1)
    return evaluate(annotations, results, COCO.sigmas).AP
