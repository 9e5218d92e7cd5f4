"""Export a small weight file for inference: weights in half precision and the config, averaged over runs.

Examples:
    dyconv-pose pack-weights --weights runs/quickstart --output pose_net.pt
    dyconv-pose pack-weights --weights runs/first runs/second --output mean.pt

The file has the weights that validation used (the moving average if the run kept one) and the config without its paths.
The optimizer and other training state are left out. It can be used like any weight file. Several files are averaged:
the mean of runs that were trained from the same weights is often better than each of them. A dynamic run, named first,
can be averaged with the static weights that it was inflated from.
"""

from collections.abc import Sequence

from pose.cli import ToolParser, run
from pose.cli.arguments import output_weights
from pose.errors import CheckpointError
from pose.packaged import weights_path


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, read and average the weights, write the small file."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--weights",
        type=weights_path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="weight files, run folders (their newest best.pt, else last.pt) or packaged models; several are averaged",
    )
    parser.add_argument(
        "--output", type=output_weights, required=True, metavar="FILE", help="weight file to write; must not exist"
    )
    args = parser.parse_args(argv)
    if args.output.exists():
        raise CheckpointError(f"{args.output}: already exists; remove it or choose another name")

    from pose.models.weight_averaging import average_weights, export_weights
    from pose.models.weights import write_weights

    write_weights(export_weights(average_weights(args.weights), args.weights[0]), args.output)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run(main)
