"""Train a pose model.

Examples:
    python tools/train.py --cfg configs/quickstart.yaml
    python tools/train.py --cfg configs/pose/B_dy_mobilenetv2_w0.5_256x192.yaml data.root=/data/coco train.workers=8
    torchrun --nproc_per_node 8 tools/train.py --cfg FILE train.batch_size=256
    python tools/train.py --cfg FILE --resume

The run folder runs/<config>/<time>/ receives the resolved config, train.log, metrics.jsonl, TensorBoard events,
last.pt and best.pt.
"""

from collections.abc import Sequence
from functools import partial

from pose.cli import ToolParser, add_config_arguments, add_run_arguments, run
from pose.config.loader import load_config


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load the config, train."""
    parser = ToolParser(__doc__)
    add_config_arguments(parser)
    add_run_arguments(parser)
    args = parser.parse_args(argv)
    config = load_config(args.cfg, args.overrides)

    from pose.datasets.synthetic.prepare import prepare_data
    from pose.engine.pose_task import train
    from pose.engine.trainer import launch

    prepare = partial(prepare_data, config)
    launch(config, partial(train, config), prepare, "AP", args.resume, args.run_dir, args.device)


if __name__ == "__main__":
    run(main)
