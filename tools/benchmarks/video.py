"""The demo on a video: the time of a frame with and without threads, and the share of each stage in it.

Times are of one frame, so 1000 over them is the frames a second. Without ``--detector`` the default model finds and
follows one person; with one, the detector's way is timed too. PyTorch computes on one thread; the demo reads, and draws
and writes, in two more, and is compared with one stage after another, by the clock. Stages are timed in the latter, by
what they take of the processor, each without what it calls of other stages: *keypoints* is what stands around the model,
from normalizing crops to decoding heatmaps.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from pose.cli import positive_count
from pose.datasets.synthetic.scene import draw_scene
from pose.inference.detectors import load_detector
from pose.inference.pytorch import PosePredictor
from pose.inference.visualize import draw_poses
from pose.skeleton import COCO
from pose.video.pipeline import EstimateFunction, detect_with, estimate_poses, run_demo
from pose.video.readers import Frame, open_source
from pose.video.tracking import track_person
from pose.video.writers import open_writer

from . import Comparison, compare
from ._stopwatch import Stopwatch
from ._timing import Budget, time_interleaved

FRAMES = 40
SIZE_WH = (960, 540)
SWAY = 60
"""Pixels by which the camera of the drawn video moves to and fro."""
SEED = 1
"""Of its people."""
DEMO, SERIAL = "with threads", "one stage after another"
STAGES = ("read", "detect", "search", "crop", "net", "keypoints", "draw", "encode")
REST = "rest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the video, the detector and the number of frames."""
    parser.add_argument("--input", dest="video", type=Path, metavar="FILE", help="a video (default: drawn people)")
    parser.add_argument("--detector", metavar="NAME|ONNX", help="as of tools/demo_video.py")
    parser.add_argument(
        "--frames", type=positive_count, default=FRAMES, help="of the video, at most (default: %(default)s)"
    )


def measure(
    budget: Budget,
    rng: np.random.Generator,
    *,
    video: Path | None = None,
    detector: str | None = None,
    frames: int = FRAMES,
) -> Iterator[Comparison]:
    """Time each way, a budget for each; yields a comparison of the demo and one of each stage.

    Raises:
        MediaError: the video or the detector cannot be opened.
    """
    stopwatch = Stopwatch(time.process_time)
    ways = {"one person": _following(stopwatch)}
    if detector is not None:
        ways["everybody"] = _detecting(detector, stopwatch)
    with TemporaryDirectory() as folder:
        video = video or draw_video(Path(folder) / "drawn.mp4", frames)
        for way, estimate in ways.items():
            run = Run(video, Path(folder) / "poses.mp4", frames, estimate)
            yield from _measure_way(way, run, stopwatch, replace(budget, warmup=0), rng)


def _measure_way(
    way: str, run: "Run", stopwatch: Stopwatch, budget: Budget, rng: np.random.Generator
) -> Iterator[Comparison]:
    count, persons = run.demo()
    rounds: list[dict[str, float]] = []

    def serial() -> None:
        rounds.append(run.serial(stopwatch))

    times = time_interleaved({DEMO: run.demo, SERIAL: serial}, budget, rng)
    case = f"{way}, {persons / count:.1f} a frame"
    yield compare(f"{case}: {DEMO}", times[DEMO] / count, times[SERIAL] / count, SERIAL, rng)
    stages = {stage: np.array([seconds[stage] for seconds in rounds]) / count for stage in rounds[0]}
    whole = np.sum(list(stages.values()), axis=0)
    for stage in STAGES:
        if stage in stages:
            yield compare(f"{case}: {stage}", stages[stage], whole, "all of its frame", rng)


@dataclass(frozen=True)
class Run:
    """A way to find poses, and what it is run on.

    Attributes:
        video: to read.
        output: a video to write.
        frames: to take of the video, at most.
        estimate: see `run_demo`.
    """

    video: Path
    output: Path
    frames: int
    estimate: EstimateFunction

    def demo(self) -> tuple[int, int]:
        """Run the demo; returns the numbers of frames and of persons."""
        source = open_source(self.video)
        with open_writer(self.output, source) as sink:
            return run_demo(source, self.estimate, COCO, sink, max_frames=self.frames)

    def serial(self, stopwatch: Stopwatch) -> dict[str, float]:
        """Do the same without threads; returns the seconds of every stage by its name."""
        stopwatch.reset()  # the demo goes through the same stages
        with stopwatch.stage(REST):
            self._one_after_another(stopwatch)
        return stopwatch.reset()

    def _one_after_another(self, stopwatch: Stopwatch) -> None:
        source = open_source(self.video)
        read = stopwatch.timed("read", partial(next, iter(source), None))
        draw = stopwatch.timed("draw", draw_poses)
        with open_writer(self.output, source) as sink:
            write = stopwatch.timed("encode", sink)
            frames: Iterator[Frame] = iter(read, None)
            for frame, poses, scores in self.estimate(islice(frames, self.frames)):
                write(frame, draw(frame.image, poses, COCO, scores=scores))


def _following(stopwatch: Stopwatch) -> EstimateFunction:
    look = stopwatch.timed("search", PosePredictor(device="cpu", flip=False))
    return partial(track_person, predict=_watched_predictor(stopwatch), look=look)


def _detecting(detector: str, stopwatch: Stopwatch) -> EstimateFunction:
    detect = stopwatch.timed("detect", detect_with(load_detector(detector, device="cpu")))
    return partial(estimate_poses, detect=detect, predictor=_watched_predictor(stopwatch))


def _watched_predictor(stopwatch: Stopwatch) -> PosePredictor:
    """Return the default model, each layer of what it does a stage."""
    predictor = PosePredictor(device="cpu")
    layers = (
        (predictor, "predict_batch", "crop"),
        (predictor, "find_keypoints", "keypoints"),
        (predictor.model, "heatmaps", "net"),
    )
    for owner, method, stage in layers:
        setattr(owner, method, stopwatch.timed(stage, getattr(owner, method)))
    return predictor


def draw_video(path: Path, frames: int) -> Path:
    """Write a video of drawn people under a swaying camera."""
    width, height = SIZE_WH
    picture = draw_scene(np.random.default_rng(SEED), (width + SWAY, height)).image
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, SIZE_WH)
    for index in range(frames):
        left = round(SWAY / 2 * (1 + np.sin(index / 10)))
        writer.write(np.ascontiguousarray(picture[:, left : left + width]))
    writer.release()
    return path
