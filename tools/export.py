"""Export a trained model to ONNX or OpenVINO, optionally quantized to int8, and verify it against PyTorch.

Examples:
    python tools/export.py --weights best.pt --output model.onnx --flip --decode
    python tools/export.py --weights runs/quickstart --output model.xml --images images/
    python tools/export.py --output small.onnx --int8 --images images/

The suffix of --output selects the backend: .onnx for ONNX Runtime, .xml for OpenVINO, with the weights in a .bin next
to it. The file takes any number of person crops, ``crops`` (N, height, width, 3) uint8 RGB, and returns ``heatmaps``;
with --decode also ``keypoints`` (N, K, 2), x, y in crop pixels, and ``scores`` (N, K). Input size, keypoint names, flip
and license are stored as metadata. The file runs without PyTorch: pose.ExportedPredictor, tools/demo_video.py and
tools/test.py accept it in place of a weight file.

Verification runs the model in PyTorch and the file in its backend on one crop and on three, and prints the largest
differences; if they exceed rounding error, no file is written. With --int8 a static model is quantized to int8,
calibrated on --images or on synthetic people; measure its AP with tools/test.py.
"""

from collections.abc import Sequence
from pathlib import Path

from pose.cli import ToolParser, run

BATCHES = (1, 3)
"""Batch sizes to verify, each with crops of its own."""
CALIBRATION_CROPS = 200
"""Crops for int8 calibration."""
DEFAULT_LICENSE = (
    "dyconv-pose's default model: MIT; its backbone was initialized from MoveNet Lightning (Google, Apache-2.0). "
    "The training data has its own terms, see pose/default_model.md"
)
"""License of the packaged model, unless --licence is given."""
NOT_STATED = "not stated"
"""License of other weights, unless --licence is given."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse arguments, load the model, export, verify, write."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--weights",
        type=Path,
        help="weight file, or a folder of runs: its newest best.pt (default: the packaged model)",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file to write: .onnx or .xml")
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
    args = parser.parse_args(argv)

    import numpy as np

    from pose.export.quantization import quantize, require_static
    from pose.export.verify import INT8_TOLERANCE, TOLERANCE, check_predictor, image_crops, synthetic_crops
    from pose.export.write import build_onnx, write_export
    from pose.inference.backends import check_exported_name, open_exported
    from pose.inference.metadata import ExportMetadata
    from pose.inference.pytorch import predict_heatmaps
    from pose.models.weights import DEFAULT_WEIGHTS, load_pose_net

    check_exported_name(args.output)
    model, config = load_pose_net(args.weights or DEFAULT_WEIGHTS)
    if args.int8:
        require_static(model)
    input_config = config.input
    number = sum(BATCHES) + (CALIBRATION_CROPS if args.int8 else 0)
    crops = image_crops(args.images, input_config, number) if args.images else synthetic_crops(input_config, number)
    *batches, calibration = np.split(crops, np.cumsum(BATCHES))
    license_text = args.licence or (DEFAULT_LICENSE if args.weights is None else NOT_STATED)
    flip_shift = config.test.flip_shift if args.flip else None
    metadata = ExportMetadata(input_config, config.keypoints, flip_shift, license_text)
    content = build_onnx(args.output, model, metadata, decodes=args.decode)
    if args.int8:
        content = quantize(content, calibration)

    flip_pairs = metadata.skeleton.flip_pairs if args.flip else None
    with write_export(args.output, content, metadata) as temporary:
        session = open_exported(temporary, threads=0)
        for batch in batches:
            parity = check_predictor(
                session.run,
                lambda crops_rgb: predict_heatmaps(model.heatmaps, crops_rgb, flip_pairs, config.test.flip_shift),
                batch,
                INT8_TOLERANCE if args.int8 else TOLERANCE,
            )
            print(
                f"batch {len(batch)}: heatmaps differ by at most {parity.heatmap:.1e} of the largest value, "
                f"keypoints by {parity.pixels:.2g} crop pixels"
            )
    print(
        f"{args.output}: {len(content) / 1e6:.1f} MB, crops {input_config.size_hw[0]}x{input_config.size_hw[1]} to "
        f"{', '.join(session.outputs)}"
    )


if __name__ == "__main__":
    run(main)
