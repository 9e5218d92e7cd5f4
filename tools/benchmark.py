"""Benchmark parts of the project against baselines: public code, static models or simpler code.

Examples:
    python tools/benchmark.py latency --widths 0.5 --json latency.json
    python tools/benchmark.py peer --weights best.pt --peer movenet-lightning.onnx --seconds 30
    python tools/benchmark.py growth --json docs/benchmarks/growth.json --conditions "the other core is idle"
    python tools/benchmark.py evaluate --peer deep-high-resolution-net.pytorch --rounds 3
    python tools/benchmark.py all --json docs/benchmarks --movenet movenet-lightning.onnx   (every suite, half an hour)

Everything runs on one thread. Calls are timed interleaved and in random order. A row shows medians and quartiles, the
ratio of the medians (below 1: ours is faster) with its 95% interval, and the latency target ("bar"), if there is one.
Calls are timed by processor time; videos, whose threads overlap, by the clock. Differences below 10% are inconclusive:
they may change on another machine or another day. tools/render_benchmarks.py makes a page of the files of --json.
"""

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from typing import Any

from pose.cli import ToolParser, run
from pose.cli.arguments import output_file, positive_count
from pose.errors import PoseError

SECONDS = 10.0
"""Default time per case."""
ALL = "all"
"""Name of the command that runs every suite."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse arguments, run a suite, print each row and write all of them."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = vars(_parser().parse_args(words))
    if options["suite"] == ALL:
        peers = {name: options[name] for name in ("movenet", "hrnet")}
        import_module("pose.tools.benchmarks._all").run_all(
            options["json"], options["suites"], peers, options["conditions"]
        )
        return

    import numpy as np

    from pose.files import replacing, to_json

    suites = load_suites()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    name, measure, json_file, conditions = (options.pop(key) for key in ("suite", "measure", "json", "conditions"))
    seconds, rounds = options.pop("seconds"), options.pop("rounds")
    budget = suites.Budget(seconds or (SECONDS if rounds is None else math.inf), rounds)
    with suites.one_thread(), nullcontext() if json_file is None else replacing(json_file) as temporary:
        machine, versions = suites.describe_machine()
        print(f"suite     {name}, one thread\nmachine   {machine}\nversions  {versions}\n\n{suites.HEADING}")
        rows = []
        for comparison in measure(budget, np.random.default_rng(0), **options):
            print(comparison.line(), flush=True)
            rows.append(comparison.row(name))
        if temporary is not None:
            record = import_module("pose.tools.benchmarks._record")
            content = {
                "suite": name,
                "command": record.command_line(words),
                "date": record.today(),
                "commit": record.current_commit(),
                "machine": machine,
                "versions": versions,
                "conditions": conditions,
                "rows": rows,
            }
            temporary.write_text(to_json(content, json_file, indent=2) + "\n", encoding="utf-8")


def load_suites() -> Any:
    """Return the package of suites, which is not part of the wheel.

    Raises:
        PoseError: the package is not available.
    """
    try:
        return import_module("pose.tools.benchmarks")
    except ModuleNotFoundError:
        raise PoseError(
            "benchmark: expected the suites of tools/benchmarks/, which are not installed; clone the repository and "
            "run python tools/benchmark.py there"
        ) from None


def positive_seconds(text: str) -> float:
    """Parse a positive, finite number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got '{text}'")
    return seconds


def _parser() -> ToolParser:
    common = ToolParser(add_help=False)
    common.add_argument("--json", type=output_file, metavar="FILE", help="also write the rows to this file")
    common.add_argument(
        "--conditions", default="", metavar="TEXT", help="what else runs on the machine, for the file of --json"
    )
    common.add_argument(
        "--seconds", type=positive_seconds, help=f"time per case (default: {SECONDS:g}, or unlimited with --rounds)"
    )
    common.add_argument("--rounds", type=positive_count, help="maximum number of timings of each call")
    parser = ToolParser(__doc__)
    suites = parser.add_subparsers(dest="suite", metavar="SUITE", required=True, parser_class=ToolParser)
    for name in load_suites().suite_names():
        suite = import_module(f"pose.tools.benchmarks.{name}")
        doc = suite.__doc__ or ""
        suite_parser = suites.add_parser(
            name, help=doc.partition("\n")[0], description=doc, parents=[common],
        )  # fmt: skip
        suite.add_arguments(suite_parser)
        suite_parser.set_defaults(measure=suite.measure)
    every = import_module("pose.tools.benchmarks._all")
    every.add_arguments(suites.add_parser(ALL, help="every suite, into a folder", description=every.__doc__))
    return parser


if __name__ == "__main__":
    run(main)
