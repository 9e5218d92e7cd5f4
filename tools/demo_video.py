"""Draw the keypoints of people on a video, an image, a folder of images or a camera's view.

Examples:
    python tools/demo_video.py --input dancer.mp4 --output poses.mp4
    python tools/demo_video.py --input street.mp4 --output poses.mp4 --detector yolox_nano.onnx
    python tools/demo_video.py --weights best.pt --input images/ --output drawn/ --boxes boxes.json --json poses.json
    python tools/demo_video.py --weights best.pt --input 0 --output me.mp4          (a camera; Ctrl-C ends it)

The output's suffix says what it is: a video (.mp4, .avi, .webm ...), an image (.jpg, .png ...) or, without one, a
folder of images. A video keeps the source's frame rate and size. Without --boxes or --detector the model itself looks
for the most visible person and follows that one. --smooth steadies keypoints that tremble, in the JSON too. A model that
tools/export.py wrote (.onnx or .xml) runs without PyTorch.

--boxes is a JSON list in COCO's result format: [{"image_id": 0, "category_id": 1, "bbox": [x, y, width, height],
"score": 0.9}, ...]. image_id is a video's frame index from 0; of images the number that is the file's name
(000000000139.jpg: 139), else the place among the sorted names, from 0. tools/detect.py writes such a file.
"""

import argparse
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pose.cli import ToolParser, positive_count, run
from pose.errors import ConfigError

if TYPE_CHECKING:
    from pose.inference.predictor import CropPredictor
    from pose.video.pipeline import EstimateFunction, FramePoses
    from pose.video.readers import Frame, FrameSource


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, open source, detector, model and outputs, and run."""
    args = _parser().parse_args(argv)

    from pose.video.pipeline import run_demo
    from pose.video.readers import open_source
    from pose.video.smoothing import smooth_poses
    from pose.video.writers import check_outputs, open_json_writer, open_writer

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check_outputs([args.output, args.json], [args.input, args.weights, args.boxes])
    predictor = open_predictor(args.weights, args.device, args.flip, args.bf16)
    source = open_source(args.input)
    find_poses = build_pipeline(args, source, predictor)

    def estimate(frames: "Iterable[Frame]") -> "Iterator[FramePoses]":
        poses = find_poses(frames)
        return smooth_poses(poses, predictor.skeleton.sigmas) if args.smooth else poses

    with ExitStack() as outputs:
        sink = outputs.enter_context(open_writer(args.output, source))
        json_sink = None
        if args.json is not None:
            json_sink = outputs.enter_context(open_json_writer(args.json, source, predictor.skeleton.names))
        frames, persons = run_demo(
            source,
            estimate,
            predictor.skeleton,
            sink,
            json_sink,
            keypoint_threshold=args.keypoint_score,
            max_frames=args.max_frames,
        )
    print(f"{args.output}: {frames} frames, {persons} persons" + (f"; keypoints in {args.json}" if args.json else ""))


def build_pipeline(args: argparse.Namespace, source: "FrameSource", predictor: "CropPredictor") -> "EstimateFunction":
    """Return what finds the poses: boxes of a file or of a detector and then the model, or the model alone."""
    from pose.inference.detectors import load_detector
    from pose.video.pipeline import detect_with, estimate_poses, read_boxes
    from pose.video.tracking import track_person

    if args.boxes is not None:
        detect = read_boxes(args.boxes, source, args.score)
    elif args.detector is not None:
        detect = detect_with(load_detector(args.detector, score_threshold=args.score, device=args.device))
    else:
        exported = is_exported(args.weights)
        look = predictor if exported else open_predictor(args.weights, args.device, flip=False, bf16=args.bf16)
        return partial(track_person, predict=predictor, look=look)
    return partial(estimate_poses, detect=detect, predictor=predictor, batch_frames=args.batch_frames)


def is_exported(weights: Path | None) -> bool:
    """Say whether weights are an exported model."""
    from pose.inference import backends as engines

    return weights is not None and engines.is_exported(weights)


def open_predictor(weights: Path | None, device: str | None, flip: bool, bf16: bool) -> "CropPredictor":
    """Load a model; one that was exported runs without PyTorch.

    Raises:
        ConfigError: an exported model is told not to average with the mirrored crop, or to compute in bfloat16.
    """
    if weights is None or not is_exported(weights):
        from pose.inference.pytorch import PosePredictor

        return PosePredictor(weights, device, flip=flip, bf16=bf16)
    if bf16:
        raise ConfigError("--bf16: an exported model computes in what it was exported in; leave the option out")
    if not flip:
        raise ConfigError("--no-flip: an exported model decides that itself; export it without --flip")
    from pose.inference.exported import ExportedPredictor

    return ExportedPredictor(weights)


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--weights", type=Path, help="weight file, folder of runs or exported model (default: the packaged one)"
    )
    parser.add_argument("--input", required=True, metavar="VIDEO|IMAGE|DIR|CAMERA", help="source; a camera is a number")
    parser.add_argument("--output", required=True, metavar="FILE|DIR", help="video, image or folder to write")
    boxes = parser.add_mutually_exclusive_group()
    boxes.add_argument("--boxes", type=Path, metavar="FILE", help="person boxes in COCO result format")
    boxes.add_argument(
        "--detector",
        metavar="NAME|ONNX",
        help="finds everybody: a YOLOX .onnx file, a detector of torchvision (ssdlite320_mobilenet_v3_large), or none: "
        "the whole frame is one person (default: the most visible person is followed)",
    )
    parser.add_argument("--smooth", action="store_true", help="steady the keypoints of a video over time")
    parser.add_argument("--json", metavar="FILE", help="also write every keypoint here")
    parser.add_argument("--score", type=float, default=0.3, help="leave out boxes scored lower (default: %(default)s)")
    parser.add_argument(
        "--keypoint-score", type=float, default=0.3, help="do not draw keypoints scored lower (default: %(default)s)"
    )
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    parser.add_argument("--no-flip", dest="flip", action="store_false", help="skip the mirrored crop: twice as fast")
    parser.add_argument(
        "--bf16", action="store_true", help="compute in bfloat16: up to twice as fast where the processor can"
    )
    parser.add_argument(
        "--batch-frames",
        type=positive_count,
        default=8,
        help="frames whose people share a batch (default: %(default)s)",
    )
    parser.add_argument("--max-frames", type=positive_count, help="stop after so many frames")
    return parser


if __name__ == "__main__":
    run(main)
