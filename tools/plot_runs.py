r"""Plot training loss, validation AP (or top-1) and attention entropy of several training runs in one image.

Examples:
    dyconv-pose plot-runs --runs static=runs/a dynamic=runs/b --output curves.png
    dyconv-pose plot-runs --runs static=runs/a static=runs/a_seed1 dynamic=runs/b --output curves.svg
    dyconv-pose plot-runs --runs dynamic=runs/b --entropy dynamic=runs/b/inspection/inspection.json \
        --output curves.png --save-csv experiment/
    dyconv-pose plot-runs --from-csv experiment/ --cases dynamic --output curves.png

Runs with the same label are seeds of one case: their mean is drawn as a strong line, each run as a faint one.
--entropy adds the attention entropy layer by layer, from the inspection.json of `dyconv-pose inspect-attention`.
--save-csv writes what the plot needs to small CSV files (curves.csv, attention.csv), with the losses thinned;
--from-csv draws the plot from them again.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pose.cli import ToolParser, run
from pose.cli.arguments import output_file, output_folder
from pose.errors import ConfigError, near_name

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, read the runs, write the CSV files and the plot."""
    args = _parser().parse_args(argv)
    if args.output is None and args.save_csv is None:
        raise ConfigError("expected --output FILE, --save-csv FOLDER or both, got neither; nothing would be written")

    from pose.engine.curves import Curves, LayerRow, read_curves, read_layers
    from pose.engine.curves_csv import experiment_files, read_experiment, write_experiment
    from pose.engine.plots import check_plot_name, draw_learning_curves
    from pose.files import check_outputs

    if args.output is not None:
        check_plot_name(args.output)
    runs, layers = labeled_paths("--runs", args.runs), labeled_paths("--entropy", args.entropy)
    read = [*experiment_files(args.from_csv), *(path for _, path in (*runs, *layers))]
    check_outputs([args.output, *experiment_files(args.save_csv)], read)
    cases: dict[str, list[Curves]] = {}
    attention: dict[str, list[LayerRow]] = {}
    if args.from_csv is not None:
        cases, attention = read_experiment(args.from_csv)
    for label, path in runs:
        cases.setdefault(label, []).append(read_curves(path))
    attention |= {label: read_layers(path) for label, path in layers}
    if args.cases:
        _check_cases(args.cases, cases)
        cases, attention = _select(cases, args.cases), _select(attention, args.cases)
    if args.save_csv is not None:
        print(*write_experiment(args.save_csv, cases, attention), sep="\n")
    if args.output is not None:
        draw_learning_curves(cases, attention, args.output)
        print(args.output)


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--runs", nargs="+", default=[], metavar="LABEL=PATH", help="a metrics.jsonl, or a folder of runs: its newest"
    )
    source.add_argument("--from-csv", type=Path, metavar="FOLDER", help="a folder that --save-csv has written")
    parser.add_argument("--entropy", nargs="+", default=[], metavar="LABEL=FILE", help="an inspection.json")
    parser.add_argument("--cases", nargs="+", metavar="LABEL", help="only these cases, in this order (default: all)")
    parser.add_argument(
        "--save-csv", type=output_folder, metavar="FOLDER", help="write curves.csv and attention.csv here"
    )
    parser.add_argument("--output", type=output_file, metavar="FILE", help="image to write: .png, .svg, ...")
    return parser


def labeled_paths(option: str, pairs: Sequence[str]) -> list[tuple[str, Path]]:
    """Split ``label=path`` arguments.

    Raises:
        ConfigError: an argument has another form.
    """
    split = [pair.partition("=") for pair in pairs]
    for pair, (label, _, path) in zip(pairs, split, strict=True):
        if not label or not path:
            raise ConfigError(f"{option}: expected label=path, such as dynamic=runs/b, got '{pair}'")
    return [(label, Path(path)) for label, _, path in split]


def _check_cases(labels: Sequence[str], known: Collection[str]) -> None:
    for label in labels:
        if label not in known:
            hint = near_name(label, known) or f"; there are {', '.join(known)}"
            raise ConfigError(f"--cases: no case '{label}'{hint}")


def _select(by_label: Mapping[str, T], labels: Sequence[str]) -> dict[str, T]:
    return {label: by_label[label] for label in labels if label in by_label}


if __name__ == "__main__":
    run(main)
