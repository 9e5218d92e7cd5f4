r"""Label the people in a folder of images: write COCO keypoint annotations predicted by a teacher model.

Examples:
    dyconv-pose label --images photos/ --detector yolox_nano.onnx --teacher teacher.onnx --output people.json
    dyconv-pose label --images photos/ --detector yolox_nano.onnx --output people.json

The annotations train a model like any others; a keypoint that the teacher is not sure of has no label. Images are
read as training reads them: an EXIF orientation is ignored. Without --teacher, the packaged model is the teacher.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose.cli import ToolParser, add_runtime_argument, run
from pose.cli.arguments import finite_number, fraction, output_file, positive_count
from pose.packaged import weights_path

if TYPE_CHECKING:
    from pose.inference.poses import Poses
    from pose.inference.predictor import CropPredictor
    from pose.runtime.pose_predictor import Runtime


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, load detector and teacher, label all images, write the annotations."""
    args = _parser().parse_args(argv)

    import numpy as np

    from pose.files import check_outputs, write_json
    from pose.images import find_images, read_image
    from pose.inference.detectors import load_detector
    from pose.progress import ProgressLine

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    paths = find_images(args.images)
    check_outputs([args.output], paths)
    detector = load_detector(args.detector, score_threshold=args.detector_score, device=args.device)
    teacher = open_teacher(args.teacher, args.device, args.runtime)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with ProgressLine("label", len(paths), "images") as progress:
        for image_id, path in enumerate(paths, start=1):
            image = read_image(path)
            height, width = image.shape[:2]
            images.append({"id": image_id, "file_name": path.name, "width": width, "height": height})
            boxes, box_scores = detector([image])[0]
            poses = teacher(image, np.asarray(boxes, dtype=np.float32))
            rows = annotation_rows(poses, image_id, args.keypoint_score)
            for row, score in zip(rows, box_scores.tolist(), strict=True):
                if row["num_keypoints"] >= args.min_keypoints:
                    annotations.append({"id": len(annotations) + 1, **row, "score": round(score, 4)})
            progress.advance(persons=str(len(annotations)))
    names = teacher.skeleton.names
    limbs = [[first + 1, second + 1] for first, second in teacher.skeleton.limbs]
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": names, "skeleton": limbs}
    write_json(args.output, {"images": images, "annotations": annotations, "categories": [category]})
    print(f"{args.output}: {len(annotations)} persons in {len(images)} images")
    if not annotations:
        print("nobody was labeled: try a lower --detector-score, --keypoint-score or --min-keypoints")


def open_teacher(path: Path | None, device: str | None, runtime: "Runtime" = "auto") -> "CropPredictor":
    """Open a teacher: any ONNX model of COCO's keypoints at 256x192, or weights of this project (None: packaged).

    Raises:
        PoseError: the file cannot be used.
    """
    if path is not None and path.suffix.lower() == ".onnx":
        from pose.config.pose import InputConfig
        from pose.inference.teacher import Teacher
        from pose.skeleton import COCO

        return Teacher(path, COCO, InputConfig())
    from pose.runtime.pose_predictor import PosePredictor

    return PosePredictor(path, device, runtime=runtime)


def annotation_rows(poses: "Poses", image_id: int, threshold: float) -> list[dict[str, Any]]:
    """Return COCO annotations of the persons of one image; keypoints below the threshold have visibility 0.

    The scores of all keypoints are in ``keypoint_scores``.
    """
    rows = []
    # float64, so that rounded numbers are written with their few digits.
    columns = (column.astype(float) for column in (poses.keypoints, poses.scores, poses.bboxes_xywh))
    for keypoints, scores, bbox in zip(*columns, strict=True):
        confident = scores >= threshold
        flat = [
            number
            for (x, y), labeled in zip(keypoints.round(1).tolist(), confident.tolist(), strict=True)
            for number in ([x, y, 2] if labeled else [0, 0, 0])
        ]
        rows.append(
            {
                "image_id": image_id,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": bbox.round(1).tolist(),
                "area": round(float(bbox[2] * bbox[3]), 1),
                "num_keypoints": int(confident.sum()),
                "keypoints": flat,
                "keypoint_scores": scores.round(3).tolist(),
            }
        )
    return rows


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of images")
    parser.add_argument(
        "--detector", required=True, metavar="NAME|ONNX", help="person detector, as for dyconv-pose detect"
    )
    parser.add_argument(
        "--teacher", type=weights_path, metavar="FILE", help="ONNX pose model, or our weights (default: packaged)"
    )
    parser.add_argument("--output", type=output_file, required=True, metavar="FILE", help="annotation file to write")
    parser.add_argument(
        "--detector-score", type=fraction, default=0.5, help="minimum score of a person box (default: %(default)s)"
    )
    parser.add_argument(
        "--keypoint-score",
        type=finite_number,
        default=0.5,
        help="minimum score of a labeled keypoint (default: %(default)s)",
    )
    parser.add_argument(
        "--min-keypoints",
        type=positive_count,
        default=5,
        help="minimum number of labeled keypoints (default: %(default)s)",
    )
    add_runtime_argument(parser, default="auto")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    return parser


if __name__ == "__main__":
    run(main)
