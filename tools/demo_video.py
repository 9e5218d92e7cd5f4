"""Estimate poses and draw them on a video, an image, a folder of images or a camera stream.

Examples:
    dyconv-pose demo-video --input dancer.mp4 --output poses.mp4
    dyconv-pose demo-video --input street.mp4 --output poses.mp4 --detector yolox_nano.onnx
    dyconv-pose demo-video --input street.mp4 --output poses.mp4 --detector yolox_nano.onnx --detect-every 3
    dyconv-pose demo-video --weights best.pt --input images/ --output drawn/ --boxes boxes.json --json poses.json
    dyconv-pose demo-video --weights best.pt --input 0 --output me.mp4          (a camera; end with Ctrl-C)

The suffix of the output selects its type: a video (.mp4, .avi, .webm ...), an image (.jpg, .png ...) or, without a
suffix, a folder of images. A video keeps the source's frame rate and size, and its audio where PyAV is installed.
Without --boxes and --detector, a detector finds all persons: the one of `dyconv-pose detector set FILE`, else a light
one of torchvision, which is downloaded once. If there is none, or with --detector pose, the pose model itself finds the
most visible person and tracks it. In a video every person keeps a number, drawn and in the JSON ("id"). --smooth
reduces jitter of the keypoints, in the JSON too. A model that `dyconv-pose export` wrote (.onnx or .xml) runs
without PyTorch.

--boxes is a JSON list in COCO's result format: [{"image_id": 0, "category_id": 1, "bbox": [x, y, width, height],
"score": 0.9}, ...]. image_id is the frame index in a video, from 0. For image files it is the number in the file name
(000000000139.jpg: 139), otherwise the index among the sorted file names, from 0. `dyconv-pose detect` writes such a
file.
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
from pose.packaged import weights_path

if TYPE_CHECKING:
    from pose.inference.predictor import CropPredictor
    from pose.video.pipeline import EstimateFunction, FramePoses
    from pose.video.readers import Frame, FrameSource


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, open the source, model, detector and outputs, and run the demo."""
    args = _parser().parse_args(argv)

    from pose.inference.open_predictor import open_predictor
    from pose.video.identities import assign_ids
    from pose.video.pipeline import run_demo
    from pose.video.readers import open_source
    from pose.video.smoothing import smooth_poses
    from pose.video.window import Window
    from pose.video.writers import check_outputs, open_json_writer, open_writer

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check_outputs([args.output, args.json], [args.input, args.weights, args.boxes])
    predictor = open_predictor(args.weights, args.device, args.flip, args.bf16)
    source = open_source(args.input)
    pipeline, everybody = build_pipeline(args, source, predictor)

    def estimate(frames: "Iterable[Frame]") -> "Iterator[FramePoses]":
        results = pipeline(frames)
        if args.track:
            results = assign_ids(results, predictor.skeleton.sigmas)
        return smooth_poses(results, predictor.skeleton.sigmas) if args.smooth else results

    size_wh = (2 * source.size_wh[0], source.size_wh[1]) if args.side_by_side else source.size_wh
    with ExitStack() as outputs:
        window = outputs.enter_context(Window(str(args.input))) if args.show else None
        image_writer = outputs.enter_context(open_writer(args.output, source, size_wh))
        json_writer = None
        if args.json is not None:
            json_writer = outputs.enter_context(open_json_writer(args.json, source, predictor.skeleton.names))
        summary = run_demo(
            source,
            estimate,
            predictor.skeleton,
            image_writer,
            json_writer,
            keypoint_threshold=args.keypoint_score,
            color="person" if args.track and everybody and source.fps is not None else "side",
            background=args.background,
            side_by_side=args.side_by_side,
            window=window,
            max_frames=args.max_frames,
        )
    print(f"{args.output}: {summary}" + (f"; keypoints in {args.json}" if args.json else ""))


def build_pipeline(
    args: argparse.Namespace, source: "FrameSource", predictor: "CropPredictor"
) -> "tuple[EstimateFunction, bool]":
    """Return the pose pipeline for the arguments, and whether it finds everybody: by boxes of a file or of a detector.

    Raises:
        ConfigError: ``--detect-every`` without a detector.
    """
    from pose.inference.duplicates import MAX_OKS
    from pose.inference.find_detector import resolve_detector
    from pose.inference.open_predictor import open_search_predictor
    from pose.video.pipeline import detect_with, estimate_poses, read_boxes
    from pose.video.propagation import estimate_between_detections
    from pose.video.tracking import track_person

    detector = None
    if args.boxes is None:
        detector = resolve_detector(args.detector, score_threshold=args.score, device=args.device)
    if detector is None and args.detect_every > 1:
        raise ConfigError("--detect-every: there is no detector to run less often; give --detector, or leave it out")
    if args.boxes is not None:
        detect = read_boxes(args.boxes, source, args.score)
        return partial(estimate_poses, detect=detect, predictor=predictor, batch_frames=args.batch_frames), True
    if detector is None:
        search_predictor = open_search_predictor(predictor, args.weights, args.device, args.bf16)
        return partial(track_person, predictor=predictor, search_predictor=search_predictor), False
    detect = detect_with(detector)
    if args.detect_every > 1:
        every = partial(estimate_between_detections, detect_every=args.detect_every)
        return partial(every, detect=detect, predictor=predictor), True
    batches = partial(estimate_poses, batch_frames=args.batch_frames, max_oks=MAX_OKS)
    return partial(batches, detect=detect, predictor=predictor), True


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--weights", type=weights_path, help="weight file, run folder or exported model (default: the packaged model)"
    )
    parser.add_argument("--input", required=True, metavar="VIDEO|IMAGE|DIR|CAMERA", help="source; a camera is a number")
    parser.add_argument("--output", required=True, metavar="FILE|DIR", help="video, image or folder to write")
    boxes = parser.add_mutually_exclusive_group()
    boxes.add_argument("--boxes", type=Path, metavar="FILE", help="person boxes in COCO result format")
    boxes.add_argument(
        "--detector",
        default="auto",
        metavar="auto|FILE|NAME|pose|none",
        help="person detector: an .onnx file, a torchvision detector (ssdlite320_mobilenet_v3_large), pose (the pose "
        "model tracks the most visible person), none (the whole frame is one person), or auto (default)",
    )
    parser.add_argument(
        "--detect-every",
        type=positive_count,
        default=1,
        metavar="N",
        help="run the detector in every Nth frame; in between, boxes come from the last keypoints (default: 1)",
    )
    parser.add_argument(
        "--track",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="number the persons of a video, each the same in all frames (default: on)",
    )
    parser.add_argument("--smooth", action="store_true", help="smooth the keypoints of a video over time")
    parser.add_argument("--side-by-side", action="store_true", help="put the input to the left of the drawing")
    parser.add_argument(
        "--background",
        choices=("image", "black"),
        default="image",
        help="draw on the input or on black (default: image)",
    )
    parser.add_argument(
        "--show", action="store_true", help="show the drawn frames in a window; q, Escape or closing it ends the demo"
    )
    parser.add_argument("--json", metavar="FILE", help="also write all keypoints to this JSON file")
    parser.add_argument("--score", type=float, default=0.3, help="minimum box score (default: %(default)s)")
    parser.add_argument(
        "--keypoint-score", type=float, default=0.3, help="minimum score of keypoints to draw (default: %(default)s)"
    )
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument("--no-flip", dest="flip", action="store_false", help="no flip averaging: twice as fast")
    parser.add_argument(
        "--bf16", action="store_true", help="compute in bfloat16: up to twice as fast if the processor supports it"
    )
    parser.add_argument(
        "--batch-frames",
        type=positive_count,
        default=8,
        help="number of frames to process together (default: %(default)s)",
    )
    parser.add_argument("--max-frames", type=positive_count, help="stop after this number of frames")
    return parser


if __name__ == "__main__":
    run(main)
