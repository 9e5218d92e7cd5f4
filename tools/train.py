"""Train a pose net.

Examples:
    python tools/train.py --cfg configs/quickstart.yaml
    python tools/train.py --cfg configs/pose/B_dy_mobilenetv2_w0.5_256x192.yaml data.root=/data/coco train.workers=8
    torchrun --nproc_per_node 8 tools/train.py --cfg FILE train.batch_size=256
    python tools/train.py --cfg FILE --resume

The run folder runs/<config>/<time>/ receives the resolved config, train.log, metrics.jsonl, TensorBoard events,
last.pt and best.pt.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from pose.command import ToolParser, add_config_arguments, run
from pose.config_files import load_config

NEWEST = Path()
"""Stands for ``--resume`` without a file."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load the config, train."""
    parser = ToolParser(__doc__)
    add_config_arguments(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const=NEWEST,
        type=Path,
        metavar="FILE",
        help="go on from a checkpoint, or from a folder's newest last.pt (default: of this config's runs)",
    )
    parser.add_argument("--run-dir", type=Path, help="folder of the run (default: runs/<config>/<time>)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    args = parser.parse_args(argv)
    config = load_config(args.cfg, args.overrides)

    from pose.datasets.prepare import prepare_data
    from pose.engine.distributed import barrier, from_main, join_processes
    from pose.engine.pose import train
    from pose.engine.run import check_run_folder, find_last, new_run_folder, runs_folder
    from pose.engine.run_log import start_logging

    with join_processes(args.device) as processes:
        resume = runs_folder(config) if args.resume == NEWEST else args.resume
        if resume is not None and (args.resume == NEWEST or resume.is_dir()):
            resume = find_last(resume)
        folder = args.run_dir or (resume.parent if resume else new_run_folder(config))
        folder = from_main(folder, processes)
        if processes.is_main:
            check_run_folder(folder, resume)
            prepare_data(config)
        barrier(processes)
        start_logging(folder if processes.is_main else None)
        best = train(config, folder, processes, resume)
        logging.getLogger(__name__).info("best validation AP %.3f; weights in %s", best, folder / "best.pt")


if __name__ == "__main__":
    run(main)
