r"""Split annotations into train and validation by image.

Examples:
  dyconv-pose hold-out --annotations annotations/people.json --fraction 0.05 \
      --kept annotations/people_fit.json --held-out annotations/people_choose.json

Use the held-out part to choose settings: results on data that was used to choose settings are too optimistic. All
persons of an image are in the same part. The split depends only on --seed and the image ids, so adding images does not
change the part of the others. The input file is not changed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Raw

from pose.cli import ToolParser, run
from pose.cli.arguments import fraction, output_file, seed_number
from pose.datasets.coco_json import Annotations, read_annotations
from pose.errors import DataError
from pose.files import write_texts
from pose.json_file import decode_json, raw_text, read_json


def main(argv: Sequence[str] | None = None) -> None:
    """Read one annotation file and write two."""
    parser = ToolParser(__doc__)
    parser.add_argument("--annotations", type=Path, required=True, metavar="FILE", help="COCO keypoint annotations")
    parser.add_argument("--fraction", type=fraction, default=0.05, help="fraction of images held out (default: 0.05)")
    parser.add_argument("--seed", type=seed_number, default=0, help="seed of the split (default: 0)")
    parser.add_argument(
        "--kept", type=output_file, required=True, metavar="FILE", help="output file of the training part"
    )
    parser.add_argument(
        "--held-out", type=output_file, required=True, metavar="FILE", help="output file of the held-out part"
    )
    args = parser.parse_args(argv)
    if not 0 < args.fraction < 1:
        raise DataError(f"--fraction: expected a number between 0 and 1, got {args.fraction}")
    for file in (args.kept, args.held_out):
        if file.exists():
            raise DataError(f"{file}: exists; remove it or choose another name")
    rows = read_annotations(args.annotations)
    content = read_json(args.annotations, dict[str, Raw], "COCO annotations")
    held_out = {image.id for image in rows.images if unit_hash(image.id, args.seed) < args.fraction}
    counts = {
        args.kept: sum(row.image_id not in held_out for row in rows.annotations),
        args.held_out: sum(row.image_id in held_out for row in rows.annotations),
    }
    for file, count in counts.items():
        if not count:
            raise DataError(f"{file}: would have no annotations; choose another --fraction")
    write_texts(
        {
            args.kept: select_images(content, rows, held_out, False),
            args.held_out: select_images(content, rows, held_out, True),
        }
    )
    for file, images in ((args.kept, len(rows.images) - len(held_out)), (args.held_out, len(held_out))):
        print(f"{file}: {images} images, {counts[file]} annotations")


def unit_hash(image_id: int, seed: int) -> float:
    """Hash an image id to a pseudorandom number in [0, 1)."""
    digest = hashlib.sha256(f"{seed}:{image_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def select_images(content: Mapping[str, Raw], rows: Annotations, image_ids: set[int], inside: bool) -> str:
    """Return the annotation file reduced to the images in ``image_ids``, or to all others; the rest is kept as it is.

    Args:
        content: JSON text of each key of a COCO annotation file.
        rows: the same file, decoded.
        image_ids: ids of the selected images.
        inside: keep the selected images; False keeps the others.
    """
    ids = {"images": [row.id for row in rows.images], "annotations": [row.image_id for row in rows.annotations]}
    parts = {}
    for name, ids_of_rows in ids.items():
        texts = decode_json(bytes(content[name]), list[Raw], f"a list of {name}", name)
        parts[name] = [text for text, row_id in zip(texts, ids_of_rows, strict=True) if (row_id in image_ids) == inside]
    return raw_text({**content, **parts})


if __name__ == "__main__":
    run(main)
