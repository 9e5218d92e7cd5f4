r"""Detect the persons in a folder of images and write their boxes, for `dyconv-pose test` and `dyconv-pose demo-video`.

Examples:
    dyconv-pose detect --detector yolox_nano.onnx --images data/coco/val2017 \
        --annotations data/coco/annotations/person_keypoints_val2017.json --output boxes.json
    dyconv-pose detect --detector fasterrcnn_mobilenet_v3_large_320_fpn --images images/ --output boxes.json

The output is in COCO's result format, category 1. With --annotations it covers the images of that file and has their
ids; images are read as by COCO's tools (EXIF orientation ignored). Without, it covers all images of the folder, and
image_id is the number in the file name (000000000139.jpg: 139), or the index among the sorted file names, from 0.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose.cli import ToolParser, run
from pose.cli.arguments import fraction, output_file
from pose.errors import MediaError

if TYPE_CHECKING:
    from pose.images import Image
    from pose.inference.detectors import Detector


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, load the detector, detect the persons of all images, write the boxes."""
    args = _parser().parse_args(argv)

    from pose.files import check_outputs, write_json
    from pose.images import find_images, read_image
    from pose.inference.find_detector import resolve_detector
    from pose.video.readers import open_source

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    detector = resolve_detector(args.detector, score_threshold=args.score, nms_threshold=args.nms, device=args.device)
    if detector is None:
        raise MediaError("--detector: found none; give an .onnx file, or set one: dyconv-pose detector set FILE")
    images: Iterable[tuple[int, Image]]
    total: int | None
    if args.annotations is not None:
        files = annotated_images(args.annotations, args.images)
        check_outputs([args.output], [path for _, path in files])
        images, total = ((image_id, read_image(path)) for image_id, path in files), len(files)
    else:
        check_outputs([args.output], find_images(args.images) if args.images.is_dir() else [args.images])
        source = open_source(args.images)
        images, total = ((frame.image_id, frame.image) for frame in source), source.count
    rows = detect(detector, images, total)
    write_json(args.output, rows)
    print(f"{args.output}: {len(rows)} boxes")


def detect(detector: "Detector", images: "Iterable[tuple[int, Image]]", total: int | None) -> list[dict[str, Any]]:
    """Return the person boxes of all images as rows of COCO's result format.

    Args:
        detector: see `pose.inference.find_detector.resolve_detector`.
        images: (id, image) pairs.
        total: number of images, for the progress line; None if unknown.
    """
    from pose.progress import ProgressLine

    rows: list[dict[str, Any]] = []
    with ProgressLine("detect", total, "images") as progress:
        for image_id, image in images:
            boxes, scores = detector([image])[0]
            rows += [
                {"image_id": image_id, "category_id": 1, "bbox": bbox, "score": score}
                for bbox, score in zip(boxes.round(2).tolist(), scores.round(4).tolist(), strict=True)
            ]
            progress.advance(boxes=str(len(rows)))
    return rows


def annotated_images(annotations: Path, folder: Path) -> list[tuple[int, Path]]:
    """Return the id and the path of each image of an annotation file."""
    from pose.datasets.coco_json import read_annotations

    return [(image.id, folder / image.file_name) for image in read_annotations(annotations).images]


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--detector",
        default="auto",
        metavar="auto|FILE|NAME",
        help="an .onnx file, a torchvision detector, or auto: see dyconv-pose detector (default: auto)",
    )
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of images")
    parser.add_argument(
        "--annotations", type=Path, metavar="FILE", help="COCO annotations with the images and their ids"
    )
    parser.add_argument("--output", type=output_file, required=True, metavar="FILE", help="JSON file to write")
    parser.add_argument(
        "--score", type=fraction, default=0.01, help="minimum box score (default: %(default)s, low as AP requires)"
    )
    parser.add_argument(
        "--nms",
        type=fraction,
        default=0.65,
        help="IoU threshold of NMS, of .onnx files without it (default: %(default)s)",
    )
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    return parser


if __name__ == "__main__":
    run(main)
