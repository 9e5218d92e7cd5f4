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

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pose.cli import ToolParser, add_pipeline_arguments, run
from pose.cli.arguments import output_file, output_path, positive_count
from pose.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, open the source, model, detector and outputs, and run the demo."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.boxes is not None and args.detector != "auto":
        parser.error("argument --boxes: not allowed with argument --detector")

    from pose.files import check_outputs
    from pose.inference.duplicates import MAX_OKS
    from pose.inference.find_detector import resolve_detector
    from pose.runtime.open_predictor import open_predictor
    from pose.video.estimation import make_estimate
    from pose.video.pipeline import detect_with, read_boxes, run_demo
    from pose.video.readers import open_source
    from pose.video.window import Window
    from pose.video.writers import open_json_writer, open_writer

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check_outputs([args.output, args.json], [args.input, args.weights, args.boxes])
    predictor = open_predictor(args.weights, args.device, args.flip, args.bf16, args.runtime)
    source = open_source(args.input)
    detector = None
    if args.boxes is None:
        detector = resolve_detector(args.detector, score_threshold=args.score, device=args.device)
    if args.detect_every > 1 and detector is None:
        raise ConfigError("--detect-every: there is no detector to run less often; give --detector, or leave it out")
    detect = None
    if args.boxes is not None:
        detect = read_boxes(args.boxes, source, args.score)
    elif detector is not None:
        detect = detect_with(detector)
    estimate = make_estimate(
        predictor,
        detect,
        detect_every=args.detect_every,
        batch_frames=args.batch_frames,
        max_oks=None if detector is None else MAX_OKS,
        track=args.track,
        smooth=args.smooth,
    )

    size_wh = (2 * source.size_wh[0], source.size_wh[1]) if args.side_by_side else source.size_wh
    with ExitStack() as renames, ExitStack() as outputs:
        window = outputs.enter_context(Window(str(args.input))) if args.show else None
        image_writer = outputs.enter_context(open_writer(args.output, source, size_wh, renames))
        json_writer = None
        if args.json is not None:
            json_writer = outputs.enter_context(open_json_writer(args.json, source, predictor.skeleton.names, renames))
        summary = run_demo(
            source,
            estimate,
            predictor.skeleton,
            image_writer,
            json_writer,
            keypoint_threshold=args.keypoint_score,
            color="person" if args.track and detect is not None and source.fps is not None else "side",
            background=args.background,
            side_by_side=args.side_by_side,
            window=window,
            max_frames=args.max_frames,
        )
    print(f"{args.output}: {summary}" + (f"; keypoints in {args.json}" if args.json else ""))


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    parser.add_argument("--input", required=True, metavar="VIDEO|IMAGE|DIR|CAMERA", help="source; a camera is a number")
    parser.add_argument(
        "--output", type=output_path, required=True, metavar="FILE|DIR", help="video, image or folder to write"
    )
    parser.add_argument(
        "--boxes", type=Path, metavar="FILE", help="person boxes in COCO result format, instead of a detector"
    )
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
    parser.add_argument("--json", type=output_file, metavar="FILE", help="also write all keypoints to this JSON file")
    parser.add_argument(
        "--batch-frames",
        type=positive_count,
        default=8,
        help="number of frames to process together (default: %(default)s)",
    )
    add_pipeline_arguments(parser)
    return parser


if __name__ == "__main__":
    run(main)
