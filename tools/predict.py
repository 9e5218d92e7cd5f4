"""Predict the keypoints of everybody in images, folders, videos, cameras and streams, and save or draw them.

Examples:
    dyconv-pose predict photo.jpg
    dyconv-pose predict photos/ more/*.png https://example.org/team.jpg --save json,csv --output keypoints
    dyconv-pose predict street.mp4 --detector yolox_nano.onnx --save video,coco
    dyconv-pose predict 0 --save video          (a camera; end with Ctrl-C)

--detector auto takes the detector of `dyconv-pose detector set FILE`, else a light one of torchvision, which is
downloaded once; without network the pose model itself finds one person.

All images together give one file per text format (images.json, or the name of the only folder or image), each video has
its own. By default the drawing (an image for an image, a video for a video) and the JSON are saved in predictions/.
    image  drawn images; every frame of a video, in a folder of its name
    video  a drawn video (.mp4)
    json   all keypoints with names, boxes and scores, one line per frame
    csv    one line per person and frame, x, y and score of each keypoint in columns
    coco   a COCO keypoint result file; image_id is the number that the file name is, if all are, else the position
    none   nothing, for --show or the summary

Images are rotated upright by their EXIF orientation. An input is never overwritten.
"""

import argparse
import logging
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pose.cli import ToolParser, add_pipeline_arguments, run
from pose.cli.arguments import output_folder
from pose.errors import ConfigError, MediaError

if TYPE_CHECKING:
    from pose.inference.predictor import CropPredictor
    from pose.video.inputs import Input
    from pose.video.pipeline import DemoSummary, EstimateFunction

logger = logging.getLogger(__name__)

DEFAULT_FORMATS = {True: ("image", "json"), False: ("video", "json")}
"""Formats that are saved by default, by whether the input consists of images."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, find the inputs, check the outputs, and predict one input after the other."""
    args = _parser().parse_args(argv)

    from pose.files import check_outputs
    from pose.inference.find_detector import resolve_detector
    from pose.runtime.open_predictor import open_predictor
    from pose.video.estimation import make_estimate
    from pose.video.inputs import find_inputs
    from pose.video.outputs import output_paths, parse_formats, written_files
    from pose.video.pipeline import detect_with

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    formats = None if args.save is None else parse_formats(args.save)
    inputs = find_inputs(args.inputs)
    outputs = [output_paths(args.output, item, formats_of(item, formats)) for item in inputs]
    files = [file for item, paths in zip(inputs, outputs, strict=True) for file in written_files(item, paths)]
    check_outputs(files, [args.weights, args.detector, *(file for item in inputs for file in item.files)])
    predictor = open_predictor(args.weights, args.device, args.flip, args.bf16, args.runtime)
    detector = resolve_detector(args.detector, score_threshold=args.score, device=args.device)
    if args.detect_every > 1 and detector is None:
        raise ConfigError("--detect-every: there is no detector to run less often; add --detector, or leave it out")
    detect = None if detector is None else detect_with(detector)
    estimate = make_estimate(predictor, detect, detect_every=args.detect_every, track=args.track, smooth=args.smooth)
    for item, paths in zip(inputs, outputs, strict=True):
        by_person = args.track and detector is not None and not item.has_images
        location, summary = predict(item, paths, args, predictor, estimate, "person" if by_person else "side")
        saved = ", ".join(map(str, paths.values())) or "nothing"
        print(f"{location}: {summary}; saved {saved}")
        if advice := advise(summary, detector is not None):
            logger.warning("%s: %s", location, advice)


def predict(
    item: "Input",
    paths: dict[str, Path],
    args: argparse.Namespace,
    predictor: "CropPredictor",
    estimate: "EstimateFunction",
    color: Literal["side", "person"],
) -> "tuple[str, DemoSummary]":
    """Predict one input, drawn in ``color`` if the user has named none; return its location and what was found."""
    from pose.video.outputs import open_outputs
    from pose.video.pipeline import run_demo
    from pose.video.window import Window

    source = item.open()
    with ExitStack() as stack:
        window = stack.enter_context(Window(source.location)) if args.show else None
        image_writer, pose_writer = stack.enter_context(open_outputs(paths, source, predictor.skeleton.names))
        summary = run_demo(
            source,
            estimate,
            predictor.skeleton,
            image_writer,
            pose_writer,
            keypoint_threshold=args.keypoint_score,
            color=args.color or color,
            window=window,
            max_frames=args.max_frames,
        )
        if window is not None and item.has_images and summary.frames == source.count:
            window.wait()  # a video ends at its last frame; an image stays until the user has seen it
    return source.location, summary


def advise(summary: "DemoSummary", has_detector: bool) -> str:
    """Return what to do if nobody was found, or only one person where a detector could find more; else nothing."""
    if summary.poses == 0 and has_detector:
        return "nobody found; try a lower --score, another --detector, or none (the whole image is one person)"
    everybody = "--detector FILE.onnx or a name such as ssdlite320_mobilenet_v3_large finds everybody"
    if summary.poses == 0:
        return (
            "nobody found; without a detector only a person who fills much of the image is; "
            f"{everybody}, --detector none takes the whole image as one person"
        )
    return "" if has_detector else f"without a detector only the most visible person is found; {everybody}"


def formats_of(item: "Input", formats: Collection[str] | None) -> Collection[str]:
    """Return the formats to save for an input.

    Raises:
        MediaError: the only format is a video, and the input is images.
    """
    if formats is not None and item.has_images and set(formats) == {"video"}:
        raise MediaError(f"--save video: {item.locations[0]} is an image; draw it with --save image")
    return DEFAULT_FORMATS[item.has_images] if formats is None else formats


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="image, folder, glob, address, video, stream, or camera number"
    )
    parser.add_argument(
        "--output",
        type=output_folder,
        default=Path("predictions"),
        metavar="DIR",
        help="folder to write (default: %(default)s)",
    )
    parser.add_argument("--save", metavar="FORMAT,...", help="image, video, json, csv, coco, or none; see above")
    parser.add_argument("--show", action="store_true", help="show the drawing in a window; q or Escape ends the input")
    parser.add_argument(
        "--color", choices=["side", "person"], help="color by side of the body, or one color for each person"
    )
    add_pipeline_arguments(parser)
    return parser


if __name__ == "__main__":
    run(main)
