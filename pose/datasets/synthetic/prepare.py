"""Create the synthetic data set of a config."""

import logging

from pose.config.pose import Config
from pose.datasets.synthetic.dataset import write_dataset

logger = logging.getLogger(__name__)


def prepare_data(config: Config) -> None:
    """Create the synthetic data set if the config uses it and it does not exist yet.

    Raises:
        DataError: the folder has other content.
    """
    synthetic = config.data.synthetic
    if synthetic is None:
        return
    logger.info("synthetic data set in %s", config.data.root)
    write_dataset(
        config.data.root,
        train_images=synthetic.train_images,
        val_images=synthetic.val_images,
        image_wh=synthetic.image_wh,
        seed=synthetic.seed,
        subject=synthetic.subject,
    )
