"""Write a trained net as an ONNX file that runs without PyTorch, after checking that it finds the same.

Examples:
    python tools/export.py --weights best.pt --output net.onnx --flip --decode
    python tools/export.py --weights runs/quickstart --output net.onnx --images pictures/

The file takes any number of person crops, ``crops`` (N, height, width, 3) uint8 RGB, and gives ``heatmaps``; with
--decode also ``keypoints`` (N, K, 2), x, y in crop pixels, and ``scores`` (N, K). Input size, keypoint names, flip and
licence are its metadata. pose.OnnxPredictor and tools/demo_video.py take it in place of a weight file.

The check runs the net in PyTorch and the file in ONNX Runtime on one crop and on three, and prints their largest
differences; a file that differs by more than rounding is not written.
"""

from collections.abc import Sequence
from pathlib import Path

from pose.command import ToolParser, run
from pose.errors import CheckpointError

BATCHES = (1, 3)
"""Sizes to check; the crops of each are others."""
DEFAULT_LICENCE = (
    "dyconv-pose's default model: MIT; its backbone started from MoveNet Lightning (Google, Apache-2.0). "
    "Trained on data with terms of its own, see pose/default_model.md"
)
NOT_STATED = "not stated"


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, export, check, write."""
    parser = ToolParser(__doc__)
    parser.add_argument(
        "--weights", type=Path, help="weight file, or a folder of runs: its newest best.pt (default: the packaged net)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="to write: a name ending in .onnx")
    parser.add_argument("--flip", action="store_true", help="average with the mirrored crop inside: twice the time")
    parser.add_argument("--decode", action="store_true", help="also give keypoints and scores")
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="check on these pictures, each a person (default: drawn people)"
    )
    parser.add_argument("--licence", metavar="TEXT", help="of the weights, to keep in the file")
    args = parser.parse_args(argv)
    if args.output.suffix.lower() != ".onnx":
        raise CheckpointError(f"{args.output}: expected a name ending in .onnx")

    import numpy as np

    from pose.export import predictor_to_onnx
    from pose.frame_sinks import replacing
    from pose.inference import predict_heatmaps
    from pose.parity import check_predictor, picture_crops, synthetic_crops
    from pose.runtime import NetCard, open_session
    from pose.weights import DEFAULT_WEIGHTS, load_pose_net

    net, config = load_pose_net(args.weights or DEFAULT_WEIGHTS)
    geometry, shift = config.input, config.test.flip_shift
    number = sum(BATCHES)
    crops = picture_crops(args.images, geometry, number) if args.images else synthetic_crops(geometry, number)
    licence = args.licence or (DEFAULT_LICENCE if args.weights is None else NOT_STATED)
    card = NetCard(geometry, config.keypoints, args.flip, licence)
    content = predictor_to_onnx(net, card, decodes=args.decode, flip_shift=shift)

    session = open_session(content, threads=0)
    pairs = card.skeleton.flip_pairs if args.flip else None
    for batch in np.split(crops, np.cumsum(BATCHES)[:-1]):
        parity = check_predictor(session, lambda found: predict_heatmaps(net.heatmaps, found, pairs, shift), batch)
        print(
            f"batch {len(batch)}: heatmaps differ by at most {parity.heatmap:.1e} of the largest value, "
            f"keypoints by {parity.pixels:.2g} crop pixels"
        )
    with replacing(args.output) as temporary:
        temporary.write_bytes(content)
    outputs = ", ".join(output.name for output in session.get_outputs())
    print(f"{args.output}: {len(content) / 1e6:.1f} MB, crops {geometry.size_hw[0]}x{geometry.size_hw[1]} to {outputs}")


if __name__ == "__main__":
    run(main)
