"""Estimate the OKS sigmas of your own keypoints from images that were annotated several times.

Examples:
  dyconv-pose estimate-sigmas first.json second.json
  dyconv-pose estimate-sigmas --category bee first.json second.json third.json

Each file annotates the same images (matched by file_name), by another person or at another time. Objects are matched by
their boxes. Prints the sigma and the number of repeated objects of each keypoint, and the line for the config. A few
dozen objects are enough for two digits.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from pose.cli import ToolParser, run
from pose.config.data import DataConfig
from pose.config.pose import Config
from pose.datasets.keypoint_set import resolve_keypoints
from pose.datasets.sigmas import estimate_sigmas


def main(argv: Sequence[str] | None = None) -> None:
    """Print the estimated sigmas."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="two or more COCO keypoint annotation files"
    )
    parser.add_argument("--category", help="name of the category, if several have keypoints")
    args = parser.parse_args(argv)
    if len(args.files) < 2:
        parser.error("expected two or more annotation files of the same images")
    data = DataConfig(root=Path(), train_annotations=args.files[0], category=args.category)
    skeleton = resolve_keypoints(Config(skeleton="from_annotations", data=data)).keypoints
    sigmas, objects = estimate_sigmas(args.files, skeleton, args.category)
    width = max(map(len, skeleton.names))
    for name, sigma, count in zip(skeleton.names, sigmas, objects, strict=True):
        print(f"{name:<{width}}  {'-' if math.isnan(sigma) else f'{sigma:.3f}':>5}  {count:.0f} objects")
    if any(math.isnan(sigma) for sigma in sigmas):
        print("-: no object has this keypoint twice; choose its sigma by that of a similar keypoint")
    values = [default if math.isnan(sigma) else sigma for sigma, default in zip(sigmas, skeleton.sigmas, strict=True)]
    print(f"skeleton.sigmas=[{', '.join(f'{value:.3f}' for value in values)}]")


if __name__ == "__main__":
    run(main)
