r"""Draw the learning curves of several runs into one image.

Examples:
    python tools/plot_runs.py --runs static=runs/a dynamic=runs/b --output curves.png
    python tools/plot_runs.py --runs static=runs/a static=runs/a_seed1 dynamic=runs/b --output curves.svg
    python tools/plot_runs.py --runs dynamic=runs/b --entropy dynamic=runs/b/inspection/inspection.json \
        --output curves.png

Runs of one label are seeds of one case: their mean is drawn, and each of them faintly. --entropy adds the attention
layer by layer, as tools/inspect_attention.py has written it.
"""

from collections.abc import Sequence
from pathlib import Path

from pose.cli import ToolParser, run
from pose.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, read the curves, draw."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--runs", nargs="+", required=True, metavar="LABEL=PATH", help="a metrics.jsonl, or a run folder that has one"
    )
    parser.add_argument("--entropy", nargs="+", default=[], metavar="LABEL=FILE", help="an inspection.json")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="image to write: .png, .svg, ...")
    args = parser.parse_args(argv)

    from pose.engine.metrics_log import Curves, read_curves, read_layers
    from pose.engine.plots import check_plot_name, draw_learning_curves

    check_plot_name(args.output)
    cases: dict[str, list[Curves]] = {}
    for label, path in labelled("--runs", args.runs):
        cases.setdefault(label, []).append(read_curves(path))
    entropies = {label: read_layers(path) for label, path in labelled("--entropy", args.entropy)}
    draw_learning_curves(cases, entropies, args.output)
    print(args.output)


def labelled(option: str, pairs: Sequence[str]) -> list[tuple[str, Path]]:
    """Part ``label=path`` words.

    Raises:
        ConfigError: a word is something else.
    """
    parted = [pair.partition("=") for pair in pairs]
    for pair, (label, _, path) in zip(pairs, parted, strict=True):
        if not label or not path:
            raise ConfigError(f"{option}: expected label=path, such as dynamic=runs/b, got '{pair}'")
    return [(label, Path(path)) for label, _, path in parted]


if __name__ == "__main__":
    run(main)
