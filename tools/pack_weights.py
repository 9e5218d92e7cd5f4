"""Make a small weight file of a training run: what predicting needs, in half precision.

Examples:
    python tools/pack_weights.py --weights runs/quickstart --output pose_net.pt
    python tools/pack_weights.py --weights runs/first runs/second --output mean.pt

Keeps the weights that validation used (the moving average where the run kept one) and the config without its paths;
leaves out the optimizer and everything else that only training needs. The file serves wherever weights do. Of several
files it takes the mean weights: of runs that went on from the same start, that is often a better model than each of them.
"""

from collections.abc import Sequence
from pathlib import Path

from pose.cli import ToolParser, run
from pose.errors import CheckpointError


def main(argv: Sequence[str] | None = None) -> None:
    """Read, pack, write."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="weight file, or a folder of runs: its newest best.pt; of several, their mean",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="to write")
    args = parser.parse_args(argv)
    if args.output.exists():
        raise CheckpointError(f"{args.output}: exists; remove it or choose another name")

    from pose.models.weight_averaging import average_weights, export_weights
    from pose.models.weights import write_weights

    write_weights(export_weights(average_weights(args.weights), args.weights[0]), args.output)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run(main)
