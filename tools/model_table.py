r"""Measure trained models: AP, parameters, multiply-adds, latency and size on disk, as a table.

Examples:
    dyconv-pose model-table --models default lite --csv models.csv --peer movenet-lightning.onnx
    dyconv-pose model-table --models default wide=runs/wide lite-int8 --csv models.csv --gt-boxes \
        --detections BOXES.json data.root=FOLDER

A model is a packaged name or NAME=FILE: a weight file or run folder (measured in PyTorch in float32 and bfloat16, and
in ONNX Runtime), a file that `dyconv-pose export` wrote, or another ONNX model that gives heatmaps of the same
keypoints. AP is measured on the validation data of the config, with and without flip averaging; with a detector's
boxes only with it. Latency is measured from crop pixels to keypoints, for one crop on one thread, interleaved with the
peer (any ONNX model with fixed input sizes), in processor time. Other rows and cells of the CSV file are kept;
`dyconv-pose plot-pareto` draws it. Timing needs a clone; --seconds 0 leaves it out.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose.cli import ToolParser, add_config_arguments, run
from pose.cli.arguments import finite_number
from pose.config.loader import load_config
from pose.errors import ConfigError, PoseError
from pose.packaged import PACKAGED_WEIGHTS, weights_path

if TYPE_CHECKING:
    import numpy as np

    from pose.engine.evaluate import TestSet
    from pose.engine.model_table import Row, Variant
    from pose.evaluation.coco_ap import Metrics

CONFIG = "pose/B_static_mobilenetv2_256x192"
"""Default config: COCO's validation data and the test protocol."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, open the models, measure, write the table and print it."""
    args = _parser().parse_args(argv)
    models = [_named(text) for text in args.models]
    config = load_config(args.cfg or CONFIG, args.overrides)

    from pose.engine.evaluate import load_test_set
    from pose.engine.launch import init_distributed
    from pose.engine.model_table import markdown, measure_ap, merge_rows, open_variants, read_rows, write_rows

    old = read_rows(args.csv) if args.csv.exists() else []
    with ExitStack() as stack, init_distributed("cpu") as dist:
        test_sets = {"ap": load_test_set(config, True)} if args.gt_boxes else {}
        if args.detections is not None:
            test_sets["ap_detections"] = load_test_set(config, False, args.detections)
        variants = [variant for name, path in models for variant in open_variants(name, path, config, stack)]
        pairs = [(variant, flip) for variant in variants for flip in variant.flips]
        rows = [variant.cells(flip) for variant, flip in pairs]
        for row, cells in zip(rows, _measure_times(pairs, args.seconds, args.peer), strict=True):
            row.update(cells)
        done: dict[tuple[str, ...], Row] = {}
        for row, (variant, flip) in zip(rows, pairs, strict=True):
            key = (variant.model, variant.same_as or variant.backend, variant.precision, row["flip"])
            if key not in done:
                done[key] = _measure_ap(partial(measure_ap, variant, flip, dist=dist), test_sets, flip)
            row.update(done[key])
        rows = merge_rows(old, rows)
    write_rows(args.csv, rows)
    print(markdown(rows))


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    add_config_arguments(parser, required=False)
    parser.add_argument(
        "--models", nargs="+", required=True, metavar="NAME[=FILE]", help="packaged models, or names and files"
    )
    parser.add_argument("--csv", type=Path, required=True, metavar="FILE", help="table to write, or to extend")
    parser.add_argument("--gt-boxes", action="store_true", help="measure AP with the annotated boxes")
    parser.add_argument("--detections", type=Path, metavar="FILE", help="measure AP with these boxes of a detector")
    parser.add_argument("--peer", type=Path, metavar="ONNX", help="model whose time is the unit of time_ratio")
    parser.add_argument(
        "--seconds", type=finite_number, default=30, help="time for the timings (default: %(default)s; 0: none)"
    )
    return parser


def _named(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if separator and name and path:
        return name, weights_path(path)
    if text in PACKAGED_WEIGHTS:
        return text, weights_path(text)
    raise ConfigError(f"--models: expected NAME=FILE or one of {', '.join(PACKAGED_WEIGHTS)}, got '{text}'")


def _measure_ap(measure: "Callable[[TestSet], Metrics]", test_sets: "Mapping[str, TestSet]", flip: bool) -> "Row":
    """Return the cells of AP; without flip averaging not with a detector's boxes, of which there are many."""
    cells: Row = {}
    for column, test_set in test_sets.items():
        if flip or column == "ap":
            metrics = measure(test_set)
            cells[column] = f"{100 * metrics.AP:.1f}"
            cells |= {"ap50": f"{100 * metrics.AP50:.1f}"} if column == "ap" else {}
    return cells


def _measure_times(pairs: "Sequence[tuple[Variant, bool]]", seconds: float, peer: Path | None) -> "list[Row]":
    """Return the cells ms and time_ratio of variants without or with flip averaging; empty without timing."""
    if not seconds:
        return [{} for _ in pairs]

    import time

    import numpy as np
    import torch

    from pose.inference.backends import open_session

    benchmarks = _benchmarks()
    rng = np.random.default_rng(0)
    calls: dict[str, Callable[[], object]] = {}
    for variant, flip in pairs:
        crop_rgb = torch.from_numpy(rng.integers(0, 256, (1, *variant.config.input.size_hw, 3), dtype=np.uint8))
        calls[str(len(calls))] = partial(variant.predict, flip, crop_rgb)
    if peer is not None:
        session = open_session(peer, threads=1)
        calls["peer"] = partial(session.run, None, _noise(session, peer, rng))
    with benchmarks.one_thread():
        budget = benchmarks.Budget(seconds)
        times = benchmarks.time_interleaved(calls, budget, rng, time.process_time)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    cells: list[Row] = []
    for index in range(len(pairs)):
        row = {"ms": f"{1e3 * medians[str(index)]:.1f}"}
        cells.append(row if peer is None else {**row, "time_ratio": f"{medians[str(index)] / medians['peer']:.2f}"})
    return cells


def _benchmarks() -> Any:
    try:
        return import_module("pose.tools.benchmarks")
    except ModuleNotFoundError:
        raise PoseError(
            "model-table: timing needs the code of tools/benchmarks/, which is not installed; run it in a clone, or "
            "give --seconds 0"
        ) from None


def _noise(session: Any, path: Path, rng: "np.random.Generator") -> Mapping[str, Any]:
    """Return random inputs of an ONNX model, whose sizes are fixed: its time does not depend on the content."""
    types = {"tensor(float)": "float32", "tensor(int32)": "int32", "tensor(uint8)": "uint8"}
    inputs = session.get_inputs()
    for value in inputs:
        if value.type not in types or not all(isinstance(size, int) for size in value.shape[1:]):
            raise ConfigError(f"--peer {path}: expected inputs of fixed sizes, got {value.type} {value.shape}")
    return {value.name: rng.integers(0, 256, (1, *value.shape[1:])).astype(types[value.type]) for value in inputs}


if __name__ == "__main__":
    run(main)
