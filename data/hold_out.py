r"""Split annotations into train and validation by image.

Examples:
  dyconv-pose hold-out --annotations annotations/people.json --fraction 0.05 \
      --kept annotations/people_fit.json --held-out annotations/people_choose.json

Use the held-out part to choose settings: results on data that was used to choose settings are too optimistic. All
persons of an image are in the same part. The split depends only on --seed and the image ids, so adding images does not
change the part of the others. The input file is not changed.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pose.cli import ToolParser, run
from pose.datasets.coco_json import read_annotations, read_json
from pose.errors import DataError
from pose.files import write_text


def main(argv: Sequence[str] | None = None) -> None:
    """Read one annotation file and write two."""
    parser = ToolParser(__doc__)
    parser.add_argument("--annotations", type=Path, required=True, metavar="FILE", help="COCO keypoint annotations")
    parser.add_argument("--fraction", type=float, default=0.05, help="fraction of images held out (default: 0.05)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (default: 0)")
    parser.add_argument("--kept", type=Path, required=True, metavar="FILE", help="output file of the training part")
    parser.add_argument("--held-out", type=Path, required=True, metavar="FILE", help="output file of the held-out part")
    args = parser.parse_args(argv)
    if not 0 < args.fraction < 1:
        raise DataError(f"--fraction: expected a number between 0 and 1, got {args.fraction}")
    for file in (args.kept, args.held_out):
        if file.exists():
            raise DataError(f"{file}: exists; remove it or choose another name")
    if args.kept.resolve() == args.held_out.resolve():
        raise DataError(f"{args.kept}: --kept and --held-out are the same file; give two names")
    read_annotations(args.annotations)  # checks the layout
    content = read_json(args.annotations)
    held_out = {image["id"] for image in content["images"] if unit_hash(image["id"], args.seed) < args.fraction}
    parts = {
        args.kept: select_images(content, held_out, inside=False),
        args.held_out: select_images(content, held_out, inside=True),
    }
    for file, part in parts.items():
        if not part["annotations"]:
            raise DataError(f"{file}: would have no annotations; choose another --fraction")
    for file, part in parts.items():
        write_text(file, json.dumps(part))
        print(f"{file}: {len(part['images'])} images, {len(part['annotations'])} annotations")


def unit_hash(image_id: int, seed: int) -> float:
    """Hash an image id to a pseudorandom number in [0, 1)."""
    digest = hashlib.sha256(f"{seed}:{image_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def select_images(content: dict[str, Any], image_ids: set[int], inside: bool) -> dict[str, Any]:
    """Return the annotation file reduced to the images in ``image_ids``, or to all others; other keys are kept.

    Args:
        content: COCO annotation file.
        image_ids: ids of the selected images.
        inside: keep the selected images; False keeps the others.
    """
    return {
        **content,
        "images": [image for image in content["images"] if (image["id"] in image_ids) == inside],
        "annotations": [
            annotation
            for annotation in content.get("annotations", [])
            if (annotation["image_id"] in image_ids) == inside
        ],
    }


if __name__ == "__main__":
    run(main)
