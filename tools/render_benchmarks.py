"""Render docs/benchmarks.md and docs/images/growth.png from the measurements in docs/benchmarks/.

Examples:
    python tools/benchmark.py nms --json docs/benchmarks/nms.json --conditions "the other core is idle"
    python tools/render_benchmarks.py
    python tools/render_benchmarks.py --records docs/benchmarks --output page.md --plot growth.png

Every figure of the page is from a file that tools/benchmark.py wrote. To change a figure, measure its suite again.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from pose.cli import ToolParser, run
from pose.cli.arguments import output_file


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, read the measurements, write the page and the plot."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--records", type=Path, default=Path("docs/benchmarks"), metavar="FOLDER",
        help="measurements, .json (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=output_file, default=Path("docs/benchmarks.md"), metavar="FILE",
        help="page to write (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--plot", type=output_file, metavar="FILE", help="also draw the suite growth: .png, .svg, ...")
    args = parser.parse_args(argv)

    from pose.files import check_outputs, write_text

    import_module("pose.tools.benchmark").load_suites()
    page, plot = (import_module(f"pose.tools.benchmarks.{name}") for name in ("_page", "_growth_plot"))
    records = page.read_records(args.records)
    check_outputs([args.output, args.plot], args.records.glob("*.json"))
    write_text(args.output, page.render_page(records))
    print(args.output)
    if args.plot is not None:
        plot.draw_growth(records, args.plot)
        print(args.plot)


if __name__ == "__main__":
    run(main)
