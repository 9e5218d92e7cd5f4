"""Train a classifier on ImageNet or any other class folders, or resume a training run.

Examples:
    dyconv-pose train-imagenet --cfg imagenet/dy_mobilenetv2_w0.5 data.root=/data/imagenet
    dyconv-pose train-imagenet --cfg FILE data.root=FOLDER train.epochs=30 train.start=runs/... (fine-tune)
    torchrun --nproc_per_node 8 -m pose.tools.train_imagenet --cfg FILE train.workers=8 train.precision=fp16
    dyconv-pose train-imagenet --cfg FILE --resume

Images are expected in FOLDER/train/<class>/ and FOLDER/val/<class>/. The run folder runs/<config>/<time>/ receives the
resolved config, train.log, metrics.jsonl, TensorBoard events, last.pt and best.pt. A pose config loads the trained
backbone with the option train.start.
"""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pose.cli import ToolParser, add_config_arguments, add_run_arguments, run
from pose.config.classification import ClassificationConfig
from pose.config.loader import load_classification_config

if TYPE_CHECKING:
    from pose.engine.distributed import DistContext

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse arguments, load the config, open the run folder and train."""
    parser = ToolParser(__doc__)
    add_config_arguments(parser)
    add_run_arguments(parser)
    args = parser.parse_args(argv)
    config = load_classification_config(args.cfg, args.overrides)

    from pose.engine.distributed import barrier
    from pose.engine.launch import init_distributed
    from pose.engine.metrics_log import start_logging
    from pose.engine.run_folder import open_run

    with (
        init_distributed(args.device, args.timeout) as dist,
        open_run(config, args.resume, args.run_dir, dist) as (folder, checkpoint),
    ):
        barrier(dist)
        start_logging(folder if dist.is_main else None)
        best = train_classifier(config, folder, dist, checkpoint)
        logger.info("best validation top-1 %.3f; weights in %s", best, folder / "best.pt")


def train_classifier(
    config: ClassificationConfig, folder: Path, dist: "DistContext", resume: Path | None = None
) -> float:
    """Build data and model, train, and return the best top-1 accuracy; errors as in `pose.engine.trainer.train`.

    The config that the run saves holds the class names.
    """
    import torch

    from pose.datasets.imagenet import TrainingImages, load_training_images
    from pose.engine.classification_task import classification_loss, sgd, validate, with_classes
    from pose.engine.initialize import initialize_weights
    from pose.engine.state import make_state
    from pose.engine.trainer import make_loader, train
    from pose.models import build_classifier

    torch.manual_seed(config.seed)
    train_images, val_images = load_training_images(config.data)
    config = with_classes(config, train_images.classes)
    options = config.train
    train_set = TrainingImages(train_images, config.input, config.augment, config.seed)
    loader = make_loader(train_set, options, dist, config.seed, unit="images")

    model = build_classifier(config)
    if options.start is not None and resume is None:
        initialize_weights(model, options.start, config.model, train_set)
    model.to(dist.device)

    state = make_state(model, sgd(model, options), options, dist)
    loss_fn = classification_loss(options, config.num_classes, dist.device)
    return train(state, loader, loss_fn, partial(validate, val_images, config, dist), config, folder, dist, resume)


if __name__ == "__main__":
    run(main)
