"""Train a pose model, or resume a training run.

Examples:
    dyconv-pose train --cfg quickstart
    dyconv-pose train --cfg pose/B_dy_mobilenetv2_w0.5_256x192 data.root=/data/coco train.workers=8
    torchrun --nproc_per_node 8 -m pose.tools.train --cfg FILE train.batch_size=256
    dyconv-pose train --cfg FILE --resume

The run folder runs/<config>/<time>/ receives the resolved config, train.log, metrics.jsonl, TensorBoard events,
train_batch.jpg, val_pred.jpg, last.pt and best.pt.
"""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pose.cli import ToolParser, add_config_arguments, add_run_arguments, run
from pose.config.loader import load_config
from pose.config.pose import Config

if TYPE_CHECKING:
    from pose.engine.distributed import DistContext

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse arguments, load the config, open the run folder and train."""
    parser = ToolParser(__doc__)
    add_config_arguments(parser)
    add_run_arguments(parser)
    args = parser.parse_args(argv)
    config = load_config(args.cfg, args.overrides)

    from pose.datasets.keypoint_set import log_keypoints, resolve_keypoints
    from pose.datasets.synthetic.prepare import prepare_data
    from pose.engine.distributed import barrier
    from pose.engine.launch import init_distributed
    from pose.engine.metrics_log import start_logging
    from pose.engine.run_folder import open_run

    with (
        init_distributed(args.device, args.timeout) as dist,
        open_run(config, args.resume, args.run_dir, dist) as (folder, checkpoint),
    ):
        if dist.is_main:
            prepare_data(config)
        barrier(dist)
        start_logging(folder if dist.is_main else None)
        given, config = config, resolve_keypoints(config)
        if dist.is_main:
            log_keypoints(given, config.keypoints)
        best = train_pose(config, folder, dist, checkpoint)
        logger.info("best validation AP %.3f; weights in %s", best, folder / "best.pt")


def train_pose(config: Config, folder: Path, dist: "DistContext", resume: Path | None = None) -> float:
    """Build data and model, train, and return the best validation AP; errors as in `pose.engine.trainer.train`."""
    import torch

    from pose.engine.distributed import barrier
    from pose.engine.evaluate import load_test_set
    from pose.engine.initialize import initialize_weights
    from pose.engine.pose_task import adam, pose_loss, training_samples, validate
    from pose.engine.sample_images import train_batch_sheet
    from pose.engine.state import make_state
    from pose.engine.trainer import make_loader, train
    from pose.engine.truth import load_truth
    from pose.models import build_pose_net

    torch.manual_seed(config.seed)
    options = config.train
    if not dist.is_main:
        barrier(dist)  # the main rank computes the heatmaps of a teacher; the others read its file
    train_set = training_samples(config)
    if dist.is_main:
        barrier(dist)
    val_set = load_test_set(config, ground_truth=options.validate_boxes == "ground_truth")
    loader = make_loader(train_set, options, dist, config.seed)

    model = build_pose_net(config)
    if options.start is not None and resume is None:
        initialize_weights(model, options.start, config.model, train_set, config.keypoints.names)
    model.to(dist.device)

    state = make_state(model, adam(model, options, dist.device), options, dist)
    loss_fn = pose_loss(options, dist.device)
    validate_fn = partial(validate, val_set, load_truth(config), config, dist)
    return train(
        state, loader, loss_fn, validate_fn, config, folder, dist, resume, partial(train_batch_sheet, train_set)
    )


if __name__ == "__main__":
    run(main)
