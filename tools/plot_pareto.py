"""Plot AP against time and against multiply-adds of the models in a table, with the Pareto front.

Examples:
    dyconv-pose plot-pareto --csv docs/experiments/family/models.csv --output docs/images/pareto.png
    dyconv-pose plot-pareto --csv models.csv --models default lite "MoveNet Lightning" --output pareto.svg

`model-table` measures the rows. Rows of other projects' models are written by hand; their source is in the table. Rows
in PyTorch in float32 are left out of the time: the same model is faster in ONNX Runtime.
"""

from collections.abc import Sequence
from pathlib import Path

from pose.cli import ToolParser, run
from pose.cli.arguments import output_file
from pose.errors import ConfigError, near_name


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, read the table, draw."""
    parser = ToolParser(__doc__)
    parser.add_argument("--csv", type=Path, required=True, metavar="FILE", help="table that model-table wrote")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these models, in this order (default: all)")
    parser.add_argument(
        "--output", type=output_file, required=True, metavar="FILE", help="image to write: .png, .svg, ..."
    )
    args = parser.parse_args(argv)

    from pose.engine.model_table import read_rows
    from pose.engine.pareto import draw_pareto
    from pose.engine.plots import check_plot_name

    check_plot_name(args.output)
    rows = read_rows(args.csv)
    names = list(dict.fromkeys(row["model"] for row in rows))
    for name in args.models or ():
        if name not in names:
            hint = near_name(name, names) or f"; there are {', '.join(names)}"
            raise ConfigError(f"--models: no model '{name}' in {args.csv}{hint}")
    rows = [row for name in args.models or names for row in rows if row["model"] == name]
    faster = {(row["model"], row["precision"]) for row in rows if row["backend"] == "ONNX Runtime" and row["ap"]}
    rows = [row for row in rows if row["backend"] != "PyTorch" or (row["model"], row["precision"]) not in faster]
    draw_pareto(rows, args.output)
    print(args.output)


if __name__ == "__main__":
    run(main)
