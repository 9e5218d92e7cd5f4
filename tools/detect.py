r"""Find the persons of a folder of images and write their boxes, for tools/test.py and tools/demo_video.py.

Examples:
    python tools/detect.py --detector yolox_nano.onnx --images data/coco/val2017 \
        --annotations data/coco/annotations/person_keypoints_val2017.json --output boxes.json
    python tools/detect.py --detector fasterrcnn_mobilenet_v3_large_320_fpn --images images/ --output boxes.json

The file is in COCO's result format, category 1. With --annotations it covers the images of that file with their ids,
read as COCO's tools read them (EXIF orientation ignored); without, every image of the folder: image_id is the number
that is the file's name (000000000139.jpg: 139), else the place among the sorted names, from 0.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose.cli import ToolParser, run

if TYPE_CHECKING:
    from pose.images import Image
    from pose.inference.detectors import Detector


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load the detector, look at every image, write the boxes."""
    args = _parser().parse_args(argv)

    from pose.files import write_text
    from pose.inference.detectors import load_detector
    from pose.video.readers import open_source

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    detector = load_detector(args.detector, score_threshold=args.score, nms_threshold=args.nms, device=args.device)
    pictures: Iterable[tuple[int, Image]]
    total: int | None
    if args.annotations is not None:
        pictures, total = annotated_images(args.annotations, args.images)
    else:
        source = open_source(args.images)
        pictures, total = ((frame.image_id, frame.image) for frame in source), source.count
    rows = detect(detector, pictures, total)
    write_text(args.output, json.dumps(rows))
    print(f"{args.output}: {len(rows)} boxes")


def detect(detector: "Detector", pictures: "Iterable[tuple[int, Image]]", total: int | None) -> list[dict[str, Any]]:
    """Return the boxes of all images as rows of COCO's result format."""
    from pose.progress import ProgressLine

    rows: list[dict[str, Any]] = []
    with ProgressLine("detect", total, "images") as progress:
        for image_id, image in pictures:
            found = detector([image])[0]
            rows += [
                {"image_id": image_id, "category_id": 1, "bbox": bbox, "score": score}
                for bbox, score in zip(found.bboxes_xywh.round(2).tolist(), found.scores.round(4).tolist(), strict=True)
            ]
            progress.advance(boxes=str(len(rows)))
    return rows


def annotated_images(annotations: Path, folder: Path) -> "tuple[Iterator[tuple[int, Image]], int]":
    """Return the ids and images of an annotation file, and their number."""
    from pose.datasets.coco_json import read_annotations
    from pose.images import read_image

    images = read_annotations(annotations)["images"]
    return ((image["id"], read_image(folder / image["file_name"])) for image in images), len(images)


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--detector", required=True, metavar="NAME|ONNX", help="a YOLOX .onnx file, or a detector of torchvision"
    )
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of images")
    parser.add_argument("--annotations", type=Path, metavar="FILE", help="COCO annotations that name images and ids")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON file to write")
    parser.add_argument(
        "--score", type=float, default=0.01, help="leave out boxes scored lower (default: %(default)s, as AP wants)"
    )
    parser.add_argument("--nms", type=float, default=0.65, help="IoU that suppresses, ONNX only (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    return parser


if __name__ == "__main__":
    run(main)
