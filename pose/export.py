"""A pose net as an ONNX file, and the check that it computes what the net does.

The exported form takes one crop at a time: a dynamic convolution has another form for a batch, which folds the batch
into its groups, and in ONNX that would be frozen at the batch it was traced with.
"""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pose.errors import CheckpointError, PoseError
from pose.models.networks import PoseNet

Heatmaps = Callable[[Tensor], Tensor]
"""Normalised images (1, 3, H, W) to heatmaps (1, K, H / 4, W / 4)."""

OPSET = 17
TOLERANCE = 1e-3
"""Of the largest heatmap value. Rounding gives about 1e-6 in trained nets and up to 1e-4 in new ones."""


def to_onnx(net: PoseNet, size_hw: tuple[int, int]) -> bytes:
    """Return the content of an ONNX file: ``images`` (1, 3, H, W), normalised, to ``heatmaps`` (1, K, H / 4, W / 4).

    Args:
        net: static or dynamic, in evaluation mode.
        size_hw: height and width of the input in pixels.

    Raises:
        PoseError: the package onnx is not installed.
    """
    if find_spec("onnx") is None:
        raise PoseError("export to ONNX: needs the package onnx; pip install 'dyconv-pose[export]'")
    images = torch.zeros((1, 3, *size_hw), device=next(net.parameters()).device)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        # The tracer warns that it takes the branch for one sample, which is what we want, and that there is a newer
        # exporter, which needs another package.
        warnings.simplefilter("ignore")
        path = Path(folder) / "net.onnx"
        torch.onnx.export(
            nn.Sequential(net, net.activation).eval(),
            (images,),
            str(path),
            input_names=["images"],
            output_names=["heatmaps"],
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


def open_session(model: bytes | Path, threads: int) -> Any:
    """Open an ONNX file, or its content, with ONNX Runtime on the CPU.

    Raises:
        PoseError: onnxruntime is not installed.
        CheckpointError: the file is missing or not an ONNX net.
    """
    try:
        import onnxruntime
    except ImportError:
        raise PoseError("ONNX nets: need the package onnxruntime; pip install 'dyconv-pose[export]'") from None
    if isinstance(model, Path) and not model.is_file():
        raise CheckpointError(f"{model}: no such ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    source = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each way a file can be wrong
        if not isinstance(model, Path):
            raise
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{model}: not an ONNX net that can be read ({reason})") from None


def heatmaps_of(session: Any) -> Heatmaps:
    """Return an exported net in the form of `PoseNet.heatmaps`, for tensors on the CPU."""

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["heatmaps"], {"images": images.numpy()})[0])

    return run


def check_export(exported: Heatmaps, original: Heatmaps, images: Tensor) -> None:
    """Compare an exported net with the one it was made from.

    Raises:
        RuntimeError: their heatmaps differ by more than rounding; the export is wrong.
    """
    with torch.inference_mode():
        ours, theirs = original(images).numpy(), exported(images).numpy()
    if ours.shape != theirs.shape:
        raise RuntimeError(f"export: heatmaps of {theirs.shape}, the net gives {ours.shape}")
    difference = np.abs(theirs - ours).max() / np.abs(ours).max()
    if not difference <= TOLERANCE:
        raise RuntimeError(f"export: heatmaps differ by {difference:.1e} of their largest value, above {TOLERANCE}")
