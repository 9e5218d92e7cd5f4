"""Evaluate a pose model: COCO AP with detector boxes or ground-truth boxes.

Examples:
    dyconv-pose test --cfg quickstart --weights runs/quickstart
    dyconv-pose test --cfg FILE --weights FILE --detections BOXES.json --output results/
    dyconv-pose test --cfg FILE --weights FILE --gt-boxes
    dyconv-pose test --cfg FILE --weights model.onnx --gt-boxes         (exported model, or model.xml)

Published COCO results use detector boxes; ground-truth boxes give about 2 points more AP. For data without annotations
(the COCO test sets) only results.json is written.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from pose.cli import ToolParser, add_config_arguments, add_runtime_argument, run
from pose.cli.arguments import output_file, output_folder
from pose.config.loader import load_config
from pose.config.paths import input_files
from pose.files import check_outputs, write_json
from pose.packaged import results_folder, weights_path

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse arguments, load config and weights, predict, evaluate and write the results."""
    parser = ToolParser(__doc__)
    add_config_arguments(parser)
    parser.add_argument(
        "--weights",
        type=weights_path,
        required=True,
        metavar="FILE",
        help="weight file, folder of runs (its newest best.pt), packaged model (default) or exported model",
    )
    boxes = parser.add_mutually_exclusive_group()
    boxes.add_argument("--detections", type=Path, help="person boxes in COCO result format (default: the config's)")
    boxes.add_argument("--gt-boxes", action="store_true", help="use the annotated boxes (AP is about 2 points higher)")
    parser.add_argument(
        "--output",
        type=output_folder,
        help="folder for results.json and metrics.json (default: test/ next to the weights)",
    )
    parser.add_argument(
        "--picture", type=output_file, help="also draw the predictions of 12 images into this image file"
    )
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one; exported models use the CPU)")
    parser.add_argument("--bf16", action="store_true", help="run the model in bfloat16 (not in ONNX Runtime)")
    add_runtime_argument(parser, default="pytorch")
    args = parser.parse_args(argv)
    config = load_config(args.cfg, args.overrides)

    from pose.datasets.synthetic.prepare import prepare_data
    from pose.engine.evaluate import load_predict_fn, load_test_set, make_results, score_results
    from pose.engine.explain_ap import explain_ap
    from pose.engine.launch import init_distributed
    from pose.engine.metrics_log import start_logging
    from pose.engine.report import draw_predictions, protocol_line
    from pose.engine.truth import find_closest, load_truth
    from pose.evaluation.coco_ap import format_table
    from pose.evaluation.coco_results import write_results
    from pose.images import check_image_name
    from pose.inference.backends import is_exported
    from pose.models.weights import find_weights

    if args.picture is not None:
        check_image_name(args.picture)
    weights = find_weights(args.weights) if args.weights.is_dir() else args.weights
    output = args.output or results_folder(weights) / "test"
    check_outputs(
        [output / "results.json", output / "metrics.json", args.picture],
        [weights, args.detections, *input_files(args.cfg, config)],
    )
    with init_distributed("cpu" if is_exported(weights) else args.device) as dist:
        start_logging(None)
        prepare_data(config)
        predict, config = load_predict_fn(config, weights, dist.device, args.bf16, args.runtime)
        test_set = load_test_set(config, args.gt_boxes, args.detections)
        predictions = predict(test_set.persons, config, dist, config.train.workers)
        if not dist.is_main:
            return
    results = make_results(predictions, test_set, config)
    write_results(results, output / "results.json")
    protocol = protocol_line(config, test_set, weights)
    if test_set.annotated:
        metrics = score_results(results, test_set, config)
        print(format_table(metrics), protocol, sep="\n")
        if metrics.AP <= 0:
            truth = load_truth(config)
            closest = find_closest(predictions, truth, config.keypoints.sigmas)
            logger.warning("%s", explain_ap(metrics, predictions, closest, test_set, truth, config))
        report = {"protocol": protocol, "boxes": test_set.boxes, "weights": str(weights), **metrics.as_dict()}
        write_json(output / "metrics.json", report, indent=2)
    else:
        print(f"{protocol}\nno annotations to evaluate against; results for the COCO server: {output / 'results.json'}")
    if args.picture is not None:
        draw_predictions(results, test_set, config, args.picture)


if __name__ == "__main__":
    run(main)
