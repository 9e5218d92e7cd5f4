"""Evaluate a classifier: top-1 and top-5 accuracy on ImageNet's validation images or any other class folders.

Examples:
    dyconv-pose test-imagenet --cfg imagenet/dy_mobilenetv2_w0.5 --weights runs/dy_mobilenetv2_w0.5
    dyconv-pose test-imagenet --cfg FILE --weights FILE data.root=/data/imagenet --output results/

Top-5 needs at least five classes. The class folders must match the classes of the training set, which the weight file
stores.
"""

from collections.abc import Sequence

from pose.cli import ToolParser, add_config_arguments, run
from pose.cli.arguments import output_folder
from pose.config.loader import config_files, load_classification_config
from pose.files import check_outputs, write_json
from pose.packaged import weights_path


def main(argv: Sequence[str] | None = None) -> None:
    """Parse arguments, load config and weights, classify and write the accuracy."""
    parser = ToolParser(__doc__)
    add_config_arguments(parser)
    parser.add_argument(
        "--weights", type=weights_path, required=True, help="weight file, or a folder of runs: its newest best.pt"
    )
    parser.add_argument(
        "--output", type=output_folder, help="folder for metrics.json (default: test/ next to the weights)"
    )
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    args = parser.parse_args(argv)
    config = load_classification_config(args.cfg, args.overrides)

    from pose.datasets.imagenet import load_test_images
    from pose.engine.classification_task import classify_images, protocol_line
    from pose.engine.launch import init_distributed
    from pose.engine.metrics_log import start_logging
    from pose.models.weights import find_weights, load_classifier_for

    weights = find_weights(args.weights) if args.weights.is_dir() else args.weights
    output = args.output or weights.parent / "test"
    check_outputs([output / "metrics.json"], [weights, *config_files(args.cfg)])
    with init_distributed(args.device) as dist:
        start_logging(None)
        model, classes = load_classifier_for(config, weights)
        images = load_test_images(config.data, classes)
        accuracy = classify_images(model.to(dist.device), images, config, dist)
        if not dist.is_main:
            return
    protocol = protocol_line(config, images, weights)
    print(accuracy, protocol, sep="\n")
    report = {"protocol": protocol, "weights": str(weights), "images": accuracy.images, **accuracy.figures()}
    write_json(output / "metrics.json", report, indent=2)


if __name__ == "__main__":
    run(main)
