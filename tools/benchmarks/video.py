"""Benchmark of the video demo: time per frame with and without threads, and the fraction of each stage.

Times are per frame in ms; 1000 / time is the frame rate. Single-person tracking with the default model is always timed;
``--detector`` adds the pipeline with that detector. The model runs as for users, in the fastest runtime installed. The
demo reads in a second thread and draws and writes in a third; its wall time is compared with a serial run. Stages are
timed in the serial run by CPU time, each without the stages that it calls: *model* is from crops to keypoints.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pose.cli.arguments import positive_count
from pose.datasets.synthetic.scene import draw_scene
from pose.inference.detectors import load_detector
from pose.inference.visualize import draw_poses
from pose.runtime.pose_predictor import PosePredictor
from pose.skeleton import COCO
from pose.video.opencv_files import open_video_writer
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
"""Camera motion in the drawn video, in pixels from left to right."""
SEED = 1
"""Seed of the persons in the drawn video."""
DEMO, SERIAL = "with threads", "one stage after another"
STAGES = ("read", "detect", "search", "crop", "model", "draw", "encode")
REST = "rest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the video, the detector and the number of frames."""
    parser.add_argument("--input", dest="video", type=Path, metavar="FILE", help="video file (default: drawn persons)")
    parser.add_argument("--detector", metavar="NAME|ONNX", help="see tools/demo_video.py")
    parser.add_argument(
        "--frames", type=positive_count, default=FRAMES, help="maximum number of frames (default: %(default)s)"
    )


def measure(
    budget: Budget,
    rng: np.random.Generator,
    *,
    video: Path | None = None,
    detector: str | None = None,
    frames: int = FRAMES,
) -> Iterator[Comparison]:
    """Time each pipeline with the whole budget; yield a comparison of the demo, then one per stage.

    Raises:
        MediaError: the video or the detector cannot be opened.
    """
    stopwatch = Stopwatch(time.process_time)
    pipelines = {"one person": _tracking_pipeline(stopwatch)}
    if detector is not None:
        pipelines["everybody"] = _detection_pipeline(detector, stopwatch)
    with TemporaryDirectory() as folder:
        video = video or draw_video(Path(folder) / "drawn.mp4", frames)
        for name, estimate in pipelines.items():
            run = Run(video, Path(folder) / "poses.mp4", frames, estimate)
            yield from _measure_pipeline(name, run, stopwatch, replace(budget, warmup=0), rng)


def _measure_pipeline(
    name: str, run: "Run", stopwatch: Stopwatch, budget: Budget, rng: np.random.Generator
) -> Iterator[Comparison]:
    count, persons = run.demo()
    rounds: list[dict[str, float]] = []

    def serial() -> None:
        rounds.append(run.serial(stopwatch))

    times = time_interleaved({DEMO: run.demo, SERIAL: serial}, budget, rng, time.perf_counter)
    case = f"{name}, {persons / count:.1f} a frame"
    yield compare(f"{case}: {DEMO}", times[DEMO] / count, times[SERIAL] / count, SERIAL, rng)
    stages = {stage: np.array([seconds[stage] for seconds in rounds]) / count for stage in rounds[0]}
    total = np.sum(list(stages.values()), axis=0)
    for stage in STAGES:
        if stage in stages:
            yield compare(f"{case}: {stage}", stages[stage], total, "all of its frame", rng)


@dataclass(frozen=True)
class Run:
    """A pose pipeline on a video, as the demo runs it and serially.

    Attributes:
        video: input file.
        output: output file.
        frames: maximum number of frames.
        estimate: the pipeline, see `run_demo`.
    """

    video: Path
    output: Path
    frames: int
    estimate: EstimateFunction

    def demo(self) -> tuple[int, int]:
        """Run the demo; return the number of frames and the number of persons."""
        source = open_source(self.video)
        with open_writer(self.output, source) as image_writer:
            summary = run_demo(source, self.estimate, COCO, image_writer, max_frames=self.frames)
        return summary.frames, summary.poses

    def serial(self, stopwatch: Stopwatch) -> dict[str, float]:
        """Do the same without threads; return the seconds of each stage by name."""
        stopwatch.reset()  # drop the times of the demo, which runs the same stages
        with stopwatch.stage(REST):
            self._run_serially(stopwatch)
        return stopwatch.reset()

    def _run_serially(self, stopwatch: Stopwatch) -> None:
        source = open_source(self.video)
        read = stopwatch.timed("read", partial(next, iter(source), None))
        draw = stopwatch.timed("draw", draw_poses)
        with open_writer(self.output, source) as image_writer:
            write = stopwatch.timed("encode", image_writer)
            frames: Iterator[Frame] = iter(read, None)
            for frame, poses, scores in self.estimate(islice(frames, self.frames)):
                write(frame, draw(frame.image, poses, COCO, scores=scores))


def _tracking_pipeline(stopwatch: Stopwatch) -> EstimateFunction:
    predictor = PosePredictor(device="cpu")
    search_predictor = predictor.without_flip()  # before the methods of the other are replaced
    _time_method(search_predictor, "predict_batch", "search", stopwatch)
    _time_stages(predictor, stopwatch)
    return partial(track_person, predictor=predictor, search_predictor=search_predictor)


def _detection_pipeline(detector: str, stopwatch: Stopwatch) -> EstimateFunction:
    detect = stopwatch.timed("detect", detect_with(load_detector(detector, device="cpu")))
    predictor = PosePredictor(device="cpu")
    _time_stages(predictor, stopwatch)
    return partial(estimate_poses, detect=detect, predictor=predictor)


def _time_stages(predictor: PosePredictor, stopwatch: Stopwatch) -> None:
    _time_method(predictor, "predict_batch", "crop", stopwatch)
    _time_method(predictor, "find_keypoints", "model", stopwatch)


def _time_method(owner: object, method: str, stage: str, stopwatch: Stopwatch) -> None:
    setattr(owner, method, stopwatch.timed(stage, getattr(owner, method)))


def draw_video(path: Path, frames: int) -> Path:
    """Write a video of drawn persons with a camera that moves from side to side."""
    width, height = SIZE_WH
    panorama = draw_scene(np.random.default_rng(SEED), (width + SWAY, height)).image
    writer = open_video_writer(path, "mp4v", 25, SIZE_WH)
    for index in range(frames):
        left = round(SWAY / 2 * (1 + np.sin(index / 10)))
        writer.write(np.ascontiguousarray(panorama[:, left : left + width]))
    writer.release()
    return path
