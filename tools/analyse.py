"""Analyse the errors of a pose model or of a result file: what each kind of error costs, and where it occurs.

Examples:
    dyconv-pose analyse --cfg FILE --weights FILE --gt-boxes
    dyconv-pose analyse --cfg FILE --weights FILE --detections BOXES.json --output report.html --json report.json
    dyconv-pose analyse --cfg FILE --results results.json               (of any model, in COCO's format)
    dyconv-pose analyse --cfg FILE --results results.json --compare other_results.json

Writes one HTML page (default: analysis.html) with tables, plots and the 20 worst persons, which needs matplotlib, and
all figures with --json. --compare gives the difference in AP with its interval, by a paired bootstrap over images.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pose.cli import ToolParser, add_config_arguments, run
from pose.cli.arguments import output_file, output_page
from pose.config.loader import load_config
from pose.config.paths import input_files
from pose.errors import ConfigError, DataError
from pose.files import check_outputs, write_json
from pose.packaged import weights_path

if TYPE_CHECKING:
    from pose.config.pose import Config
    from pose.evaluation.coco_results import Result


def main(argv: Sequence[str] | None = None) -> None:
    """Parse arguments, predict or read the results, analyse them, and write page and figures."""
    args = _parser().parse_args(argv)
    if args.results is not None and (args.gt_boxes or args.detections):
        raise ConfigError("--results: the boxes are part of the results; remove --gt-boxes or --detections")
    output = args.output or (None if args.json else Path("analysis.html"))
    config = load_config(args.cfg, args.overrides)
    check_outputs([output, args.json], input_files(args.cfg, config))

    from pose.datasets.coco import find_category
    from pose.datasets.coco_json import read_annotations, read_results
    from pose.datasets.keypoint_set import resolve_keypoints
    from pose.datasets.synthetic.prepare import prepare_data
    from pose.engine.analysis_page import describe_comparison, draw_worst, write_page
    from pose.engine.metrics_log import start_logging
    from pose.engine.plots import require_matplotlib
    from pose.evaluation.analysis import analyse, compare
    from pose.evaluation.error_costs import format_costs

    if output is not None:
        require_matplotlib(output)
    start_logging(None)
    prepare_data(config)
    config = resolve_keypoints(config)
    skeleton, annotations = config.keypoints, config.data.root / config.data.val_annotations
    content = read_annotations(annotations)
    if not content.annotations:
        raise DataError(f"{annotations}: has no annotations, so errors cannot be analysed; use annotated images")
    category_id = find_category(content.categories, annotations, skeleton, config.data.category)
    others = read_results(args.compare, skeleton.num_keypoints) if args.compare else None
    if args.results is not None:
        results, source = read_results(args.results, skeleton.num_keypoints), f"{args.results} on {annotations.name}"
    else:
        predicted = _predict(config, args)
        if predicted is None:  # a rank that is not the main one
            return
        results, source = predicted
    analysis = analyse(annotations, results, skeleton, category_id)
    figures = {"source": source, **analysis.figures}
    comparison = None
    if others is not None:
        comparison = compare(annotations, results, others, skeleton, category_id)
        comparison = figures["comparison"] = {"other": str(args.compare), **comparison}
    worst = draw_worst(analysis, skeleton, config.data.root / config.data.val_images)
    figures["worst"] = [person.figures for person in worst]
    print(format_costs(figures), source, sep="\n")
    if comparison is not None:
        print(describe_comparison(comparison))
    if output is not None:
        write_page(analysis, worst, source, comparison, output)
        print(output)
    if args.json:
        write_json(args.json, figures, indent=2)
        print(args.json)


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    add_config_arguments(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--weights", type=weights_path, help="weight file, folder of runs (its newest best.pt) or exported model"
    )
    source.add_argument("--results", type=Path, help="keypoint results in COCO format, of any model")
    boxes = parser.add_mutually_exclusive_group()
    boxes.add_argument("--detections", type=Path, help="person boxes in COCO result format (default: the config's)")
    boxes.add_argument("--gt-boxes", action="store_true", help="use the annotated boxes")
    parser.add_argument("--compare", type=Path, metavar="RESULTS", help="other results of the same images")
    parser.add_argument(
        "--output", type=output_page, help="HTML page to write (default: analysis.html, none with --json)"
    )
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write all figures to this file")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one; exported models use the CPU)")
    return parser


def _predict(config: "Config", args: Namespace) -> "tuple[list[Result], str] | None":
    """Return the results of a model and their protocol, or None on the ranks that are not the main one."""
    from pose.engine.evaluate import load_predict_fn, load_test_set, make_results
    from pose.engine.launch import init_distributed
    from pose.engine.report import protocol_line
    from pose.inference.backends import is_exported
    from pose.models.weights import find_weights

    weights = find_weights(args.weights) if args.weights.is_dir() else args.weights
    check_outputs([args.output, args.json], [weights])
    with init_distributed("cpu" if is_exported(weights) else args.device) as dist:
        predict, config = load_predict_fn(config, weights, dist.device)
        test_set = load_test_set(config, args.gt_boxes, args.detections)
        predictions = predict(test_set.persons, config, dist, config.train.workers)
        if not dist.is_main:
            return None
    return make_results(predictions, test_set, config), protocol_line(config, test_set, weights)


if __name__ == "__main__":
    run(main)
