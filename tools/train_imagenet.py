"""Train a classifier on ImageNet, or on any folders of classes.

Examples:
    python tools/train_imagenet.py --cfg configs/imagenet/dy_mobilenetv2_w0.5.yaml data.root=/data/imagenet
    python tools/train_imagenet.py --cfg FILE data.root=FOLDER train.epochs=30 train.start=runs/... (fine-tune)
    torchrun --nproc_per_node 8 tools/train_imagenet.py --cfg FILE train.workers=8 train.precision=fp16
    python tools/train_imagenet.py --cfg FILE --resume

The images lie in FOLDER/train/<class>/ and FOLDER/val/<class>/. The run folder runs/<config>/<time>/ receives the
resolved config, train.log, metrics.jsonl, TensorBoard events, last.pt and best.pt. A pose model's backbone starts from
such weights with train.start.
"""

from collections.abc import Sequence
from functools import partial

from pose.cli import ToolParser, add_config_arguments, add_run_arguments, run
from pose.config.loader import load_classification_config


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load the config, train."""
    parser = ToolParser(__doc__)
    add_config_arguments(parser)
    add_run_arguments(parser)
    args = parser.parse_args(argv)
    config = load_classification_config(args.cfg, args.overrides)

    from pose.engine.classification_task import train
    from pose.engine.trainer import launch

    launch(config, partial(train, config), lambda: None, "top-1", args.resume, args.run_dir, args.device)


if __name__ == "__main__":
    run(main)
