r"""Hold out a part of an annotation file, to choose by: settings that are chosen on the test set flatter themselves.

Examples:
  python data/hold_out.py --annotations annotations/people.json --fraction 0.05 \
      --kept annotations/people_fit.json --held-out annotations/people_choose.json

Whole images are held out, with all their persons. Which ones depends only on --seed and their ids, so that images
added later do not move the others. The file that is read stays as it is.
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
    """Read one file, write two."""
    parser = ToolParser(__doc__)
    parser.add_argument("--annotations", type=Path, required=True, metavar="FILE", help="COCO keypoint annotations")
    parser.add_argument("--fraction", type=float, default=0.05, help="share of the images (default: 0.05)")
    parser.add_argument("--seed", type=int, default=0, help="another seed holds out other images (default: 0)")
    parser.add_argument("--kept", type=Path, required=True, metavar="FILE", help="to write: what stays")
    parser.add_argument("--held-out", type=Path, required=True, metavar="FILE", help="to write: what is held out")
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
    held_out = {image["id"] for image in content["images"] if share(image["id"], args.seed) < args.fraction}
    parts = {args.kept: cut(content, held_out, inside=False), args.held_out: cut(content, held_out, inside=True)}
    for file, part in parts.items():
        if not part["annotations"]:
            raise DataError(f"{file}: would have no annotations; choose another --fraction")
    for file, part in parts.items():
        write_text(file, json.dumps(part))
        print(f"{file}: {len(part['images'])} images, {len(part['annotations'])} annotations")


def share(image_id: int, seed: int) -> float:
    """Map an image's id to a number in [0, 1) that looks random."""
    digest = hashlib.sha256(f"{seed}:{image_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def cut(content: dict[str, Any], held_out: set[int], inside: bool) -> dict[str, Any]:
    """Return the annotations whose images are held out, or those that are not; other keys stay."""
    return {
        **content,
        "images": [image for image in content["images"] if (image["id"] in held_out) == inside],
        "annotations": [one for one in content.get("annotations", []) if (one["image_id"] in held_out) == inside],
    }


if __name__ == "__main__":
    run(main)
