"""Check a data set before training: files, layout, ids, keypoint names, boxes, keypoints, images.

Examples:
  dyconv-pose check-data --cfg pose/B_dy_mobilenetv2_256x192
  dyconv-pose check-data --annotations people.json --images images/
  dyconv-pose check-data --annotations people.json --detections boxes.json

Prints each issue with its file, the number of records, and how to fix it. Exits with 0 if there are no errors, else
with 2.
"""

from collections.abc import Sequence
from pathlib import Path

from pose.cli import ToolParser, add_config_arguments, run
from pose.config.loader import load_config
from pose.config.pose import Config
from pose.datasets.keypoint_set import keypoint_notes, resolve_keypoints
from pose.datasets.synthetic.prepare import prepare_data
from pose.datasets.validation.checks import check_annotations, check_detections
from pose.datasets.validation.issues import Issue
from pose.errors import DataError


def main(argv: Sequence[str] | None = None) -> None:
    """Check the data set of a config, or the given files."""
    parser = ToolParser(__doc__)
    add_config_arguments(parser, required=False)
    parser.add_argument("--annotations", type=Path, metavar="FILE", help="COCO keypoint annotations, instead of --cfg")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of their images")
    parser.add_argument("--detections", type=Path, metavar="FILE", help="person boxes in COCO result format")
    args = parser.parse_args(argv)
    if (args.cfg is None) == (args.annotations is None):
        parser.error("expected either --cfg or --annotations")
    if args.cfg is not None:
        issues = check_config(load_config(args.cfg, args.overrides))
    else:
        issues = check_annotations(args.annotations, args.images, trained=not args.detections)
        issues += check_detections(args.detections, args.annotations) if args.detections else []
    for issue in issues:
        print(issue)
    errors = sum(issue.severity == "error" for issue in issues)
    if errors:
        raise DataError(f"data set check failed: fix {errors} {'error' if errors == 1 else 'errors'} above")
    print("Data set check passed.")


def check_config(config: Config) -> list[Issue]:
    """Check keypoint set, training set, validation set and, if the file exists, the detector boxes of a config."""
    prepare_data(config)
    data, root = config.data, config.data.root
    train, val = root / data.train_annotations, root / data.val_annotations
    skeleton, issues = None, []
    try:
        skeleton = resolve_keypoints(config).keypoints
        notes = keypoint_notes(config, skeleton)
        issues += [Issue("warning" if is_warning else "info", train, text) for is_warning, text in notes]
    except DataError as error:
        issues.append(Issue("error", train, str(error).removeprefix(f"{train}: ")))
    detections = root / data.val_detections
    tested = detections.exists()  # an image-info file of a test set has no annotations
    for annotations, images, trained in ((train, data.train_images, True), (val, data.val_images, not tested)):
        issues += check_annotations(annotations, root / images, 50, skeleton, data.category, trained)
    if tested:
        return issues + check_detections(detections, val)
    todo = "test with --gt-boxes, or create them with dyconv-pose detect"
    return [*issues, Issue("warning", detections, "no detector boxes", todo)]


if __name__ == "__main__":
    run(main)
