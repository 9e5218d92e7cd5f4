"""Plot the two regions of one dynamic perceptron that computes XOR (paper, appendix A.3).

Example:
    dyconv-pose plot-perceptron --output perceptron.png

Prints its outputs at the four corners, next to those of the static perceptron that the mean of its kernels gives.
Explained in docs/dynamic_perceptron.md.
"""

from collections.abc import Sequence

from pose.cli import ToolParser, run
from pose.cli.arguments import output_file


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, print the outputs at the corners, draw."""
    args = _parser().parse_args(argv)

    import numpy as np

    from pose.engine.perceptron import CORNERS, apply_perceptron, draw_perceptron, static_perceptron, xor_perceptron
    from pose.engine.plots import check_plot_name

    check_plot_name(args.output)
    corners = np.array(CORNERS)
    dynamic, static = apply_perceptron(xor_perceptron(), corners), apply_perceptron(static_perceptron(), corners)
    print("x1 x2  XOR  dynamic  relu  static")
    for (x1, x2), y, relu, y_static in zip(CORNERS, dynamic, dynamic.clip(min=0), static, strict=True):
        print(f"{x1:2.0f} {x2:2.0f}  {x1 != x2:3d}  {y:7.3f}  {relu:4.1f}  {y_static:6.3f}")
    draw_perceptron(args.output)
    print(args.output)


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--output", type=output_file, required=True, metavar="FILE", help="image to write: .png, .svg, ..."
    )
    return parser


if __name__ == "__main__":
    run(main)
