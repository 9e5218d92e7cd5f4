"""Write an HTML page of samples: annotated persons, and the crops and targets that training makes of them.

Examples:
  dyconv-pose browse --cfg quickstart
  dyconv-pose browse --cfg FILE --samples 60 --output samples.html data.root=/data/bees

The page is one file without links: the keypoint set with its flip pairs and sigmas, how often each keypoint is labeled,
and evenly spread samples of the training set, each as annotated and as augmented in three epochs.
"""

from collections.abc import Sequence
from pathlib import Path

from pose.cli import ToolParser, add_config_arguments, run
from pose.cli.arguments import output_page, positive_count
from pose.config.loader import load_config
from pose.config.paths import input_files
from pose.datasets.keypoint_set import resolve_keypoints
from pose.datasets.synthetic.prepare import prepare_data
from pose.files import check_outputs, write_text


def main(argv: Sequence[str] | None = None) -> None:
    """Load the training set of a config and write the page."""
    parser = ToolParser(__doc__)
    add_config_arguments(parser)
    parser.add_argument("--samples", type=positive_count, default=24, help="number of persons (default: %(default)s)")
    parser.add_argument(
        "--output",
        type=output_page,
        default=Path("browse.html"),
        metavar="FILE",
        help="page to write (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    config = load_config(args.cfg, args.overrides)
    check_outputs([args.output], input_files(args.cfg, config))

    from pose.engine.browse import browse_page
    from pose.engine.pose_task import training_samples

    prepare_data(config)
    resolved = resolve_keypoints(config)
    dataset = training_samples(resolved)
    write_text(args.output, browse_page(config, resolved, dataset, args.samples))
    print(f"{args.output}: {min(args.samples, len(dataset))} of {len(dataset)} persons")


if __name__ == "__main__":
    run(main)
