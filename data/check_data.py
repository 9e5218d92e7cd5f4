"""Check a data set before training: files, layout, ids, boxes, keypoints, images.

Examples:
  python data/check_data.py --cfg configs/pose/B_dy_mobilenetv2_256x192.yaml
  python data/check_data.py --annotations people.json --images images/
  python data/check_data.py --annotations people.json --detections boxes.json

Prints what is wrong, where, how often, and what to do. Exits with 0 if the data can be used, with 2 if not.
"""

from collections.abc import Sequence
from pathlib import Path

from pose.cli import ToolParser, add_config_arguments, run
from pose.config.loader import load_config
from pose.config.pose import Config
from pose.datasets.synthetic.prepare import prepare_data
from pose.datasets.validation.checks import check_annotations, check_detections
from pose.datasets.validation.issues import Issue
from pose.errors import DataError


def main(argv: Sequence[str] | None = None) -> None:
    """Check what a config names, or the files that are given."""
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
        issues = check_annotations(args.annotations, args.images)
        issues += check_detections(args.detections, args.annotations) if args.detections else []
    for finding in issues:
        print(finding)
    errors = sum(finding.severity == "error" for finding in issues)
    if errors:
        raise DataError(f"the data cannot be used yet: mend what stands above as error ({errors})")
    print("The data can be used.")


def check_config(config: Config) -> list[Issue]:
    """Check the training set, the validation set and, if there, the detector boxes of a config."""
    prepare_data(config)
    data, root = config.data, config.data.root
    issues = check_annotations(root / data.train_annotations, root / data.train_images)
    issues += check_annotations(root / data.val_annotations, root / data.val_images)
    detections = root / data.val_detections
    if detections.exists():
        return issues + check_detections(detections, root / data.val_annotations)
    todo = "test with --gt-boxes, or make boxes with tools/detect.py (data/README.md)"
    return [*issues, Issue("warning", detections, "no detector boxes", todo)]


if __name__ == "__main__":
    run(main)
