"""Export a trained model to ONNX, OpenVINO or a web page, optionally quantized to int8, and verify it.

Examples:
    dyconv-pose export --weights best.pt --output model.onnx --flip --decode
    dyconv-pose export --weights runs/quickstart --output model.xml --images images/
    dyconv-pose export --output small.onnx --int8 --images images/
    dyconv-pose export --browser page/
    python -m http.server --directory page/             (then open http://localhost:8000)

The suffix of --output selects the backend: .onnx for ONNX Runtime, .xml for OpenVINO, with the weights in a .bin next
to it. The file takes any number of person crops, ``crops`` (N, height, width, 3) uint8 RGB, and returns ``heatmaps``;
with --decode also ``keypoints`` (N, K, 2), x, y in crop pixels, and ``scores`` (N, K). Input size, keypoint names, flip
and license are stored as metadata. The file runs without PyTorch: pose.ExportedPredictor, demo-video and test accept it
in place of a weight file.

--browser writes a web page that runs the model on a camera, a video or an image. npm, which comes with Node.js,
downloads ONNX Runtime Web for it; the page itself loads nothing from other hosts, and images stay in the browser.

Verification runs the model in PyTorch and the file in its backend on one crop and on three, and prints the largest
differences; if they exceed rounding error, no file is written. With --int8 a static model is quantized to int8,
calibrated on --images or on synthetic people, and its keypoints on these crops are compared with the float model's;
measure its AP with `dyconv-pose test`.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pose.cli import ToolParser, run
from pose.cli.arguments import output_file, output_folder
from pose.packaged import packaged_license, weights_path

BATCHES = (1, 3)
"""Batch sizes to verify, each with crops of its own."""
CALIBRATION_CROPS = 200
"""Crops for int8 calibration."""
NOT_STATED = "not stated"
"""License of weights that are not packaged, unless --licence is given."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse arguments, then write the exported file or the web page."""
    args = _parser().parse_args(argv)
    if args.output is not None:
        export(args, args.output)
        return

    from pose.export.browser import check_folder, load_runtime, write_page
    from pose.inference import search
    from pose.inference.backends import open_exported
    from pose.inference.metadata import read_metadata
    from pose.video.tracking import SEARCH_INTERVAL

    check_folder(args.browser)
    runtime = load_runtime(args.runtime)  # before the export, which takes longer
    constants = {
        "min_keypoint_score": search.MIN_KEYPOINT_SCORE,
        "min_keypoints": search.MIN_KEYPOINTS,
        "margin": search.MARGIN,
        "refinements": search.REFINEMENTS,
        "search_interval": SEARCH_INTERVAL,
    }
    args.decode = True
    with TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        export(args, model)
        metadata = read_metadata(open_exported(model, threads=1).metadata, model)
        write_page(args.browser, model.read_bytes(), metadata, constants, runtime)
    print(f"{args.browser}: serve it by `python -m http.server --directory {args.browser}`, open http://localhost:8000")


def export(args: argparse.Namespace, output: Path) -> None:
    """Load the model, export, verify, write."""
    import numpy as np

    from pose.export.quantization import quantize, require_static
    from pose.export.verify import check_int8, check_predictor, image_crops, synthetic_crops
    from pose.export.write import build_onnx, write_export
    from pose.files import check_outputs
    from pose.images import find_images
    from pose.inference.backends import check_exported_name, open_exported
    from pose.inference.metadata import ExportMetadata
    from pose.inference.pytorch import predict_heatmaps
    from pose.models.weights import find_weights, load_pose_net

    check_exported_name(output)
    weights = find_weights(args.weights) if args.weights.is_dir() else args.weights
    check_outputs([output, output.with_suffix(".bin")], [weights, *(find_images(args.images) if args.images else ())])
    model, config = load_pose_net(weights)
    if args.int8:
        require_static(model)
    input_config = config.input
    number = CALIBRATION_CROPS if args.int8 else sum(BATCHES)
    crops = image_crops(args.images, input_config, number) if args.images else synthetic_crops(input_config, number)
    license_text = args.licence or packaged_license(args.weights) or NOT_STATED
    flip_shift = config.test.flip_shift if args.flip else None
    metadata = ExportMetadata(input_config, config.keypoints, flip_shift, license_text)
    content = build_onnx(output, model, metadata, decodes=args.decode)
    if args.int8:
        content = quantize(content, crops)

    flip_pairs = metadata.skeleton.flip_pairs if args.flip else None
    original = partial(predict_heatmaps, model.heatmaps, flip_pairs=flip_pairs, shift=config.test.flip_shift)
    with write_export(output, content, metadata) as temporary:
        session = open_exported(temporary, threads=0)
        if args.int8:
            agreement = check_int8(session.run, original, crops, input_config, metadata.skeleton.sigmas)
            print(
                f"int8 against float keypoints: AP {100 * agreement.ap:.1f}, mean OKS {agreement.mean_oks:.3f} "
                f"({agreement.persons} persons on {len(crops)} calibration crops)"
            )
        else:
            for batch in np.split(crops, np.cumsum(BATCHES)[:-1]):
                parity = check_predictor(session.run, original, batch)
                print(
                    f"batch {len(batch)}: heatmaps differ by at most {parity.heatmap:.1e} of the largest value, "
                    f"keypoints by {parity.pixels:.2g} crop pixels"
                )
    print(
        f"{output.name if args.output is None else output}: {len(content) / 1e6:.1f} MB, crops "
        f"{input_config.size_hw[0]}x{input_config.size_hw[1]} to {', '.join(session.outputs)}"
    )


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--weights",
        type=weights_path,
        default="default",
        metavar="FILE",
        help="weight file, a folder of runs (its newest best.pt), or the name of a packaged model (default: default)",
    )
    output = parser.add_mutually_exclusive_group(required=True)
    output.add_argument("--output", type=output_file, metavar="FILE", help="file to write: .onnx or .xml")
    output.add_argument("--browser", type=output_folder, metavar="DIR", help="folder of a web page to write")
    parser.add_argument("--flip", action="store_true", help="flip test inside the file: takes twice as long")
    parser.add_argument("--decode", action="store_true", help="also output keypoints and scores")
    parser.add_argument("--int8", action="store_true", help="quantize to int8; static models only")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="images for verification and int8 calibration, one person each (default: synthetic people)",
    )
    parser.add_argument("--licence", metavar="TEXT", help="license of the weights, stored in the file")
    parser.add_argument(
        "--runtime",
        type=Path,
        metavar="FILE.tgz",
        help="for --browser: the archive that `npm pack onnxruntime-web` wrote, instead of downloading it",
    )
    return parser


if __name__ == "__main__":
    run(main)
