"""Data that a config asks the project to make itself."""

import logging

from pose.config.pose import Config
from pose.datasets.synthetic.dataset import write_dataset

logger = logging.getLogger(__name__)


def prepare_data(config: Config) -> None:
    """Draw the embedded data set where the config asks for it and it is not there yet.

    Raises:
        DataError: its folder holds something else.
    """
    synthetic = config.data.synthetic
    if synthetic is None:
        return
    logger.info("embedded data set in %s", config.data.root)
    write_dataset(
        config.data.root,
        train_images=synthetic.train_images,
        val_images=synthetic.val_images,
        image_wh=synthetic.image_wh,
        seed=synthetic.seed,
    )
