"""Build a crop cache: training then reads small crops of the persons instead of whole images.

Examples:
  dyconv-pose build-cache --cfg FILE data.root=/data/coco data.crop_cache=/fast/coco.crops train.workers=16
  dyconv-pose train --cfg FILE data.root=/data/coco data.crop_cache=/fast/coco.crops

The crops contain every view that the config's augmentation can draw. Training rejects a cache of other annotations,
images or options; this command replaces it. train.workers is the number of threads.
"""

import logging
from collections.abc import Sequence

from pose.cli import ToolParser, add_config_arguments, run
from pose.config.loader import load_config
from pose.datasets.coco import annotated_persons
from pose.datasets.crop_cache.build import build_crop_cache
from pose.datasets.keypoint_set import resolve_keypoints
from pose.datasets.synthetic.prepare import prepare_data
from pose.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file ``data.crop_cache``."""
    parser = ToolParser(__doc__)
    add_config_arguments(parser)
    args = parser.parse_args(argv)
    config = load_config(args.cfg, args.overrides)
    data = config.data
    if data.crop_cache is None:
        raise ConfigError("data.crop_cache: not set; set the file to write, such as data.crop_cache=train.crops")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    prepare_data(config)
    skeleton = resolve_keypoints(config).keypoints
    persons = annotated_persons(
        data.root / data.train_annotations, data.root / data.train_images, skeleton, data.category
    )
    path = data.root / data.crop_cache
    written = build_crop_cache(persons, skeleton, config.input, config.augment, path, max(1, config.train.workers))
    size = path.stat().st_size
    print(
        f"{path}: {len(persons)} persons, {size / 1e9:.2f} GB, {size / len(persons) / 1e3:.1f} KB each"
        f"{'' if written else '; was up to date'}"
    )


if __name__ == "__main__":
    run(main)
