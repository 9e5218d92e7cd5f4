"""Attention ablation study of a dynamic model: attention by layer, and AP or accuracy with the attention replaced.

Examples:
    dyconv-pose inspect-attention --cfg quickstart --weights runs/quickstart
    dyconv-pose inspect-attention --cfg FILE --weights FILE --gt-boxes --limit 300 --output inspection/
    dyconv-pose inspect-attention --cfg imagenet/dy_mobilenetv2_w0.5 --weights FILE data.root=FOLDER

The model is evaluated as trained and with the attention of the paper's Tables 3 and 4: averaged (all kernels have equal
weight), the largest weight only, shuffled within each image (no kernel keeps its weight), shuffled across images, and
switched on by input resolution, from the deepest layers and from the shallowest. Ours: replaced by its mean over all
inputs, on or off at one resolution. The output folder receives inspection.json and entropy.png. Each evaluation takes
as long as `dyconv-pose test`.
"""

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pose.cli import ToolParser, add_config_arguments, run
from pose.cli.arguments import output_folder, positive_count
from pose.config.classification import ClassificationConfig
from pose.config.loader import load_any_config
from pose.config.paths import input_files
from pose.config.pose import Config
from pose.errors import ConfigError
from pose.packaged import results_folder, weights_path

if TYPE_CHECKING:
    from torch import nn

    from pose.engine.distributed import DistContext


def main(argv: Sequence[str] | None = None) -> None:
    """Parse arguments, load config and weights, measure in every mode and print the table."""
    args = _parser().parse_args(argv)
    config = load_any_config(args.cfg, args.overrides)

    from pose.engine.attention_ablation import format_layers, format_metrics, measure_modes
    from pose.engine.launch import init_distributed
    from pose.engine.plots import check_plot_name, draw_attention
    from pose.files import check_outputs, write_json
    from pose.models.weights import find_weights

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    weights = find_weights(args.weights) if args.weights.is_dir() else args.weights
    output = args.output or results_folder(weights) / "inspection"
    check_plot_name(output / "entropy.png")
    check_outputs(
        [output / "inspection.json", output / "entropy.png"],
        [weights, args.detections, *input_files(args.cfg, config)],
    )
    with init_distributed(args.device) as dist:
        if isinstance(config, Config):
            model, measure, protocol = _load_pose_net(config, weights, args, dist)
        else:
            model, measure, protocol = _load_classifier(config, weights, args, dist)
        metrics, layers = measure_modes(model, measure, config.seed)
    rows = [layer.as_dict() for layer in layers]
    report = {"protocol": protocol, "weights": str(weights), "seed": config.seed, "modes": metrics, "layers": rows}
    write_json(output / "inspection.json", report, indent=2)
    draw_attention(rows, output / "entropy.png")
    print(format_metrics(metrics), format_layers(layers), protocol, sep="\n")


Subject = tuple["nn.Module", Callable[[], Mapping[str, float]], str]
"""Model, function that measures it, and protocol line."""


def _load_pose_net(config: Config, weights: Path, args: argparse.Namespace, dist: "DistContext") -> Subject:
    from pose.datasets.synthetic.prepare import prepare_data
    from pose.engine.attention_ablation import first_persons, pose_measure, require_dynamic
    from pose.engine.evaluate import load_test_set
    from pose.engine.report import protocol_line
    from pose.models.weights import load_weights_for

    model = load_weights_for(config, weights).to(dist.device)
    require_dynamic(model, weights)
    prepare_data(config)
    test_set = load_test_set(config, args.gt_boxes, args.detections)
    if args.limit is not None:
        test_set = first_persons(test_set, args.limit)
    measure = pose_measure(model, test_set, config, dist, limited=args.limit is not None)
    return model, measure, protocol_line(config, test_set, weights)


def _load_classifier(
    config: ClassificationConfig, weights: Path, args: argparse.Namespace, dist: "DistContext"
) -> Subject:
    from pose.datasets.imagenet import load_test_images
    from pose.engine.attention_ablation import classifier_measure, require_dynamic, shuffled_images
    from pose.engine.classification_task import protocol_line
    from pose.models.weights import load_classifier_for

    if args.gt_boxes or args.detections is not None:
        raise ConfigError(
            f"--gt-boxes, --detections: {config.name} is a classifier, which uses whole images; remove the option"
        )
    model, classes = load_classifier_for(config, weights)
    require_dynamic(model, weights)
    images = shuffled_images(load_test_images(config.data, classes), args.limit, config.seed)
    measure = classifier_measure(model.to(dist.device), images, config, dist)
    return model, measure, protocol_line(config, images, weights)


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    add_config_arguments(parser)
    parser.add_argument(
        "--weights",
        type=weights_path,
        required=True,
        metavar="FILE",
        help="weight file, a folder of runs (its newest best.pt), or the name of a packaged model",
    )
    boxes = parser.add_mutually_exclusive_group()
    boxes.add_argument("--detections", type=Path, help="person boxes in COCO result format (default: the config's)")
    boxes.add_argument("--gt-boxes", action="store_true", help="use the annotated boxes")
    parser.add_argument(
        "--limit",
        type=positive_count,
        metavar="N",
        help="evaluate on the first images only, with at most N persons in total (a classifier: on N images)",
    )
    parser.add_argument("--output", type=output_folder, help="output folder (default: inspection/ next to the weights)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    return parser


if __name__ == "__main__":
    run(main)
