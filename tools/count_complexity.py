"""Count parameters and multiply-adds of models, or compare all models of the paper with its published figures.

Examples:
    dyconv-pose count-complexity --cfg pose/B_dy_mobilenetv2_256x192 quickstart
    dyconv-pose count-complexity --cfg imagenet/dy_mobilenetv2 model.width=0.6
    dyconv-pose count-complexity --all --json counts.json

All counts are in 1e6, for one image of the config's input size. Multiply-adds (MAdds) are those of convolutions and
linear layers; a dynamic convolution adds its attention and the aggregation of its kernels (paper, section 3.2).
--all shows the figures of the paper that are at hand; "-" is one that is not.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pose.cli import ToolParser, run
from pose.cli.arguments import output_file
from pose.config.loader import config_files, load_any_config

if TYPE_CHECKING:
    from pose.models.published import Published


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, count, print a Markdown table and write the counts as JSON."""
    args = _parser().parse_args(argv)

    from pose.files import check_outputs, write_json
    from pose.models.complexity import count_config
    from pose.models.published import PUBLISHED

    models = {name: (name, args.overrides) for name in args.cfg or ()}
    if args.all:
        models = {row.model: (row.config, [*row.overrides, *args.overrides]) for row in PUBLISHED}
    check_outputs([args.json], [file for name, _ in models.values() for file in config_files(name)])
    counts: dict[str, dict[str, Any]] = {}
    for model, (name, overrides) in models.items():
        config = load_any_config(name, overrides)
        own_overrides = model.split()[1:]  # not those of the command line
        counts[model] = {"config": " ".join([config.name, *own_overrides]), **count_config(config)}
    print(_comparison_tables(counts) if args.all else _table([*counts.values()]))
    if args.json is not None:
        write_json(args.json, [*counts.values()], indent=2)


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    parser.takes_overrides = True
    models = parser.add_mutually_exclusive_group(required=True)
    models.add_argument("--cfg", metavar="FILE", nargs="+", help="YAML files, or names of packaged configs")
    models.add_argument("--all", action="store_true", help="count all models of the paper and compare with its figures")
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="also write the counts to this file, one object per model"
    )
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[], help="override an option, such as model.width=0.5"
    )
    return parser


def _table(counts: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of counts, one model per row: backbone, head and both."""
    rows = [["net", "backbone params", "MAdds", "head params", "MAdds", "whole params", "MAdds"]]
    for count in counts:
        cells = [str(count["config"])]
        for params, madds in (_part(count, "backbone"), _part(count, "head"), _part(count, "classifier")):
            cells += [f"{params:.2f}", f"{madds:.1f}"]
        rows.append(cells)
    return _markdown(rows)


def _comparison_tables(counts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return tables of our counts, the paper's and the difference in percent, followed by the notes."""
    from pose.models.published import SECTIONS

    notes: dict[str, int] = {}
    blocks = []
    for heading, rows in SECTIONS.items():
        blocks += [f"### {heading}", _comparison_table(rows, counts, notes)]
    return "\n\n".join([*blocks, "\n".join(f"{number}. {note}" for note, number in notes.items())])


def _comparison_table(
    rows: "Sequence[Published]", counts: Mapping[str, Mapping[str, Any]], notes: dict[str, int]
) -> str:
    """Return the table of a section; adds its notes to ``notes``, with their numbers."""
    cells = [["net", "part", "params", "paper", "", "MAdds", "paper", "", "note"]]
    for row in rows:
        count = counts[row.model]
        line = [str(count["config"]), row.part]
        for ours, digits, paper in zip(_part(count, row.part), (2, 1), (row.params, row.madds), strict=True):
            difference = "" if paper is None else f"{100 * (ours / paper - 1):+.1f}%"
            line += [f"{ours:.{digits}f}", "-" if paper is None else str(paper), difference]
        numbers = [str(notes.setdefault(note, len(notes) + 1)) for note in row.notes]
        cells.append([*line, ", ".join(numbers)])
    if all(row.params is None and row.madds is None for row in rows):
        cells = [[*line[:3], line[5]] for line in cells]
    return _markdown(cells)


def _part(count: Mapping[str, Any], part: str) -> tuple[float, float]:
    """Return parameters and MAdds in 1e6 of a part: ``backbone``, ``head``, or ``classifier`` for the whole model."""
    parts = ("backbone", "head") if part == "classifier" else (part,)
    return sum(count[f"{p}_params"] for p in parts) / 1e6, sum(count[f"{p}_madds"] for p in parts) / 1e6


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * max(width, 3) for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    run(main)
