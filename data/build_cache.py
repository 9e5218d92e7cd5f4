"""Cut all training persons out of their images once, so that training reads small crops instead of whole images.

Examples:
  python data/build_cache.py --cfg FILE data.root=/data/coco data.crop_cache=/fast/coco.crops train.workers=16
  python tools/train.py --cfg FILE data.root=/data/coco data.crop_cache=/fast/coco.crops

The crops hold every view that the config's augmentation can draw. A cache that was built for other annotations,
images or options is refused by tools/train.py and replaced here. train.workers threads cut at the same time.
"""

import logging
from collections.abc import Sequence

from pose.cli import ToolParser, add_config_arguments, run
from pose.config.loader import load_config
from pose.datasets.coco import annotated_persons
from pose.datasets.crop_cache.build import build_crop_cache
from pose.datasets.synthetic.prepare import prepare_data
from pose.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file that ``data.crop_cache`` names."""
    parser = ToolParser(__doc__)
    add_config_arguments(parser)
    args = parser.parse_args(argv)
    config = load_config(args.cfg, args.overrides)
    data, skeleton = config.data, config.keypoints
    if data.crop_cache is None:
        raise ConfigError("data.crop_cache: names no file; give one to write, such as data.crop_cache=train.crops")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    prepare_data(config)
    persons = annotated_persons(data.root / data.train_annotations, data.root / data.train_images, skeleton)
    path = data.root / data.crop_cache
    written = build_crop_cache(persons, skeleton, config.input, config.augment, path, max(1, config.train.workers))
    size = path.stat().st_size
    print(
        f"{path}: {len(persons)} persons, {size / 1e9:.2f} GB, {size / len(persons) / 1e3:.1f} KB each"
        f"{'' if written else '; was up to date'}"
    )


if __name__ == "__main__":
    run(main)
