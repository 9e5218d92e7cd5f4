"""A pose net as an ONNX file; `pose.parity` checks that it computes what the net does.

What is exported is the net as `pose.deploy` leaves it, its dynamic convolutions in the form of
`pose.models.deployed_conv.BatchFreeDynamicConv2d`: the number of crops is free, without loops or branches, and at one
crop the file is faster than with kernels that are mixed and convolved (its docstring has the figures).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from pose.config import STRIDE
from pose.deploy import deploy
from pose.errors import PoseError
from pose.inference import flip_average, normalize
from pose.models.deployed_conv import BatchFreeDynamicConv2d, FoldedDynamicConv2d
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.networks import PoseNet
from pose.runtime import CROPS, HEATMAPS, KEYPOINTS, SCORES, NetCard

Heatmaps = Callable[[Tensor], Tensor]
"""Normalised images (N, 3, H, W) to heatmaps (N, K, H / 4, W / 4)."""

OPSET = 17


def to_onnx(net: PoseNet, size_hw: tuple[int, int]) -> bytes:
    """Return the content of an ONNX file: ``images`` (N, 3, H, W), normalised, to ``heatmaps`` (N, K, H / 4, W / 4).

    Args:
        net: static or dynamic; not changed.
        size_hw: height and width of the input in pixels.

    Raises:
        PoseError: the package onnx is not installed.
    """
    images = torch.zeros((1, 3, *size_hw))
    return _export(_HeatmapNet(net), images, "images", [HEATMAPS], {})


def predictor_to_onnx(net: PoseNet, card: NetCard, *, decodes: bool, flip_shift: int = 1) -> bytes:
    """Return the content of an ONNX file that takes pixels: ``crops`` (N, h, w, 3) uint8 RGB to ``heatmaps``.

    It normalises the crops, and averages with the mirrored ones where the card says so. Its metadata are the card, and
    `pose.runtime.OnnxPredictor` needs nothing else.

    Args:
        net: static or dynamic; not changed.
        card: what the file is to say about the net.
        decodes: also give ``keypoints`` (N, K, 2), x, y in crop pixels, and ``scores`` (N, K).
        flip_shift: see `pose.inference.flip_average`.

    Raises:
        PoseError: the package onnx is not installed.
    """
    graph = _Predictor(net, card.skeleton.flip_pairs if card.flip else None, flip_shift, decodes)
    crops = torch.zeros((1, *card.geometry.size_hw, 3), dtype=torch.uint8)
    outputs = [HEATMAPS, KEYPOINTS, SCORES] if decodes else [HEATMAPS]
    return _export(graph, crops, CROPS, outputs, card.metadata())


class _HeatmapNet(nn.Module):
    """A pose net ready for export, from normalised images to heatmaps."""

    def __init__(self, net: PoseNet) -> None:
        super().__init__()
        self.net = deploy(net).cpu()
        _free_the_batch(self.net)

    def forward(self, images: Tensor) -> Tensor:
        return self.net.heatmaps(images)


class _Predictor(nn.Module):
    """`pose.inference.predict_heatmaps`, and decoding behind it, for a tracer to follow."""

    def __init__(
        self, net: PoseNet, flip_pairs: Sequence[tuple[int, int]] | None, flip_shift: int, decodes: bool
    ) -> None:
        super().__init__()
        self.heatmaps_of = _HeatmapNet(net)
        self.flip_pairs, self.flip_shift, self.decodes = flip_pairs, flip_shift, decodes

    def forward(self, crops_rgb: Tensor) -> tuple[Tensor, ...]:
        images = normalize(crops_rgb)
        if self.flip_pairs is None:
            heatmaps = self.heatmaps_of(images)
        else:
            # In one batch: called twice, the net would stand in the file twice.
            both = torch.stack([images, images.flip(-1)], 1).flatten(0, 1)
            heatmaps, flipped = self.heatmaps_of(both).unflatten(0, (-1, 2)).unbind(1)
            heatmaps = flip_average(heatmaps, flipped, self.flip_pairs, self.flip_shift)
        return (heatmaps, *decode_in_graph(heatmaps)) if self.decodes else (heatmaps,)


def decode_in_graph(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Do what `pose.heatmap.decode` does, in operators that a tracer can follow.

    Args:
        heatmaps: (N, K, H, W), finite.

    Returns:
        keypoints (N, K, 2) x, y in crop pixels, a heatmap pixel being four of them, and scores (N, K).
    """
    height, width = (int(side) for side in heatmaps.shape[2:])
    flat = heatmaps.flatten(2)
    peak = flat.argmax(2, keepdim=True)
    scores = flat.gather(2, peak)
    y = torch.div(peak, width, rounding_mode="trunc")
    x = peak - y * width
    inner = (scores > 0) & (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)

    def slope(step: int) -> Tensor:
        after, before = (flat.gather(2, (peak + s).clamp(0, height * width - 1)) for s in (step, -step))
        return (after - before).sign() * inner

    keypoints = torch.cat([x + 0.25 * slope(1), y + 0.25 * slope(width)], 2) * (scores > 0)
    return keypoints * STRIDE, scores.squeeze(2)


def _free_the_batch(module: nn.Module) -> None:
    """Give the dynamic convolutions of a deployed net their form for any batch, in place."""
    for name, child in module.named_children():
        if isinstance(child, FoldedDynamicConv2d):
            setattr(module, name, BatchFreeDynamicConv2d(child.conv, child.shift))
        elif isinstance(child, DynamicConv2d):
            setattr(module, name, BatchFreeDynamicConv2d(child))
        else:
            _free_the_batch(child)


def _export(
    graph: nn.Module,
    example: Tensor,
    input_name: str,
    output_names: list[str],
    metadata: Mapping[str, str],
) -> bytes:
    if find_spec("onnx") is None:
        raise PoseError("export to ONNX: needs the package onnx; pip install 'dyconv-pose[export]'")
    import onnx

    with TemporaryDirectory() as folder, warnings.catch_warnings():
        # The tracer warns that sizes become constants, which is what we want, and that there is a newer exporter,
        # which needs another package.
        warnings.simplefilter("ignore")
        path = Path(folder) / "net.onnx"
        torch.onnx.export(
            graph.eval(),
            (example,),
            str(path),
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_axes={name: {0: "batch"} for name in (input_name, *output_names)},
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(metadata))
    return bytes(model.SerializeToString())


def heatmaps_of(session: Any) -> Heatmaps:
    """Return what `to_onnx` exported in the form of `PoseNet.heatmaps`, for tensors on the CPU."""

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([HEATMAPS], {"images": images.numpy()})[0])

    return run
