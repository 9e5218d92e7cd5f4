"""Write a trained model as a file that runs without PyTorch, ONNX or OpenVINO's, after checking that it finds the same.

Examples:
    python tools/export.py --weights best.pt --output model.onnx --flip --decode
    python tools/export.py --weights runs/quickstart --output model.xml --images images/
    python tools/export.py --output small.onnx --int8 --images images/

The name says for which engine: .onnx for ONNX Runtime, .xml for OpenVINO, with the weights in a .bin beside it. The
file takes any number of person crops, ``crops`` (N, height, width, 3) uint8 RGB, and gives ``heatmaps``; with --decode
also ``keypoints`` (N, K, 2), x, y in crop pixels, and ``scores`` (N, K). Input size, keypoint names, flip and licence
are its metadata. pose.ExportedPredictor, tools/demo_video.py and tools/test.py take it in place of a weight file.

The check runs the model in PyTorch and the file in its engine on one crop and on three, and prints their largest
differences; a file that differs by more than rounding is not left. With --int8 a static model computes in 8-bit
integers, calibrated on --images, or on drawn people; tools/test.py says what AP that costs.
"""

from collections.abc import Sequence
from pathlib import Path

from pose.cli import ToolParser, run

BATCHES = (1, 3)
"""Sizes to check; the crops of each are others."""
CALIBRATION_CROPS = 200
DEFAULT_LICENCE = (
    "dyconv-pose's default model: MIT; its backbone started from MoveNet Lightning (Google, Apache-2.0). "
    "Trained on data with terms of its own, see pose/default_model.md"
)
NOT_STATED = "not stated"


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, export, check, write."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--weights",
        type=Path,
        help="weight file, or a folder of runs: its newest best.pt (default: the packaged model)",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="to write: a .onnx or .xml")
    parser.add_argument("--flip", action="store_true", help="average with the mirrored crop inside: twice the time")
    parser.add_argument("--decode", action="store_true", help="also give keypoints and scores")
    parser.add_argument("--int8", action="store_true", help="compute in 8-bit integers; static models only")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="check, and calibrate --int8, on these images, each a person (default: drawn people)",
    )
    parser.add_argument("--licence", metavar="TEXT", help="of the weights, to keep in the file")
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
    licence = args.licence or (DEFAULT_LICENCE if args.weights is None else NOT_STATED)
    card = ExportMetadata(input_config, config.keypoints, config.test.flip_shift if args.flip else None, licence)
    content = build_onnx(args.output, model, card, decodes=args.decode)
    if args.int8:
        content = quantize(content, calibration)

    pairs = card.skeleton.flip_pairs if args.flip else None
    with write_export(args.output, content, card) as temporary:
        exported = open_exported(temporary, threads=0)
        for batch in batches:
            parity = check_predictor(
                exported.run,
                lambda found: predict_heatmaps(model.heatmaps, found, pairs, config.test.flip_shift),
                batch,
                INT8_TOLERANCE if args.int8 else TOLERANCE,
            )
            print(
                f"batch {len(batch)}: heatmaps differ by at most {parity.heatmap:.1e} of the largest value, "
                f"keypoints by {parity.pixels:.2g} crop pixels"
            )
    print(
        f"{args.output}: {len(content) / 1e6:.1f} MB, crops {input_config.size_hw[0]}x{input_config.size_hw[1]} to "
        f"{', '.join(exported.outputs)}"
    )


if __name__ == "__main__":
    run(main)
