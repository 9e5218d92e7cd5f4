"""A pose model as an ONNX file; `pose.export.verify` checks that it computes what the model does.

What is exported is the model as `pose.models.fuse` leaves it, its dynamic convolutions in a form of
`pose.models.fused_conv`. By default that is `BatchFreeDynamicConv2d`, for ONNX Runtime: the number of crops is free,
without loops or branches, and at one crop the file is faster than with kernels that are mixed and convolved (its
docstring has the figures). `pose.export.write` takes a dynamic model for one crop, `OneSampleDynamicConv2d`.
"""

import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from pose.config.pose import STRIDE
from pose.errors import PoseError
from pose.heatmap import flip_average
from pose.inference.metadata import CROPS, HEATMAPS, KEYPOINTS, SCORES, ExportMetadata
from pose.inference.pytorch import normalize
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.fuse import fuse
from pose.models.fused_conv import (
    BackendDynamicConv2d,
    BatchFreeDynamicConv2d,
    FusedDynamicConv2d,
    OneSampleDynamicConv2d,
)
from pose.models.pose_net import PoseNet

Heatmaps = Callable[[Tensor], Tensor]
"""Normalized images (N, 3, H, W) to heatmaps (N, K, H / 4, W / 4)."""

OPSET = 17


def to_onnx(net: PoseNet, size_hw: tuple[int, int]) -> bytes:
    """Return the content of an ONNX file: ``images`` (N, 3, H, W), normalized, to ``heatmaps`` (N, K, H / 4, W / 4).

    Args:
        net: static or dynamic; not changed.
        size_hw: height and width of the input in pixels.

    Raises:
        PoseError: the package onnx is not installed.
    """
    images = torch.zeros((1, 3, *size_hw))
    return _export(_HeatmapNet(net, BatchFreeDynamicConv2d), images, "images", [HEATMAPS], {}, free_batch=True)


def predictor_to_onnx(net: PoseNet, card: ExportMetadata, *, decodes: bool, one_crop: bool = False) -> bytes:
    """Return the content of an ONNX file that takes pixels: ``crops`` (N, h, w, 3) uint8 RGB to ``heatmaps``.

    It normalizes the crops, and averages with the mirrored ones where the card says so. Its metadata are the card, and
    `pose.inference.exported.ExportedPredictor` needs nothing else.

    Args:
        net: static or dynamic; not changed.
        card: what the file is to say about the model.
        decodes: also give ``keypoints`` (N, K, 2), x, y in crop pixels, and ``scores`` (N, K).
        one_crop: N is 1 for good.

    Raises:
        PoseError: the package onnx is not installed.
    """
    graph = _Predictor(net, card, decodes, OneSampleDynamicConv2d if one_crop else BatchFreeDynamicConv2d)
    crops = torch.zeros((1, *card.input_config.size_hw, 3), dtype=torch.uint8)
    outputs = [HEATMAPS, KEYPOINTS, SCORES] if decodes else [HEATMAPS]
    return _export(graph, crops, CROPS, outputs, card.to_properties(), free_batch=not one_crop)


def is_dynamic(net: nn.Module) -> bool:
    """Say whether a model has dynamic convolutions."""
    return any(isinstance(layer, DynamicConv2d) for layer in net.modules())


class _HeatmapNet(nn.Module):
    """A pose model ready for export, from normalized images to heatmaps."""

    def __init__(self, net: PoseNet, form: type[BackendDynamicConv2d]) -> None:
        super().__init__()
        self.net = fuse(net).cpu()
        self.form = form
        _take_form(self.net, form)

    def forward(self, images: Tensor) -> Tensor:
        if self.form is OneSampleDynamicConv2d:
            return torch.cat([self.net.heatmaps(image) for image in images.split(1)])
        return self.net.heatmaps(images)


class _Predictor(nn.Module):
    """`pose.inference.pytorch.predict_heatmaps`, and decoding behind it, for a tracer to follow."""

    def __init__(self, net: PoseNet, card: ExportMetadata, decodes: bool, form: type[BackendDynamicConv2d]) -> None:
        super().__init__()
        self.heatmap_fn = _HeatmapNet(net, form)
        self.card, self.decodes = card, decodes

    def forward(self, crops_rgb: Tensor) -> tuple[Tensor, ...]:
        images = normalize(crops_rgb)
        if self.card.flip_shift is None:
            heatmaps = self.heatmap_fn(images)
        else:
            # In one batch: called twice, the model would stand in the file twice.
            both = torch.stack([images, images.flip(-1)], 1).flatten(0, 1)
            heatmaps, flipped = self.heatmap_fn(both).unflatten(0, (-1, 2)).unbind(1)
            heatmaps = flip_average(heatmaps, flipped, self.card.skeleton.flip_pairs, self.card.flip_shift)
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


def _take_form(module: nn.Module, form: type[BackendDynamicConv2d]) -> None:
    """Give the dynamic convolutions of a deployed model another form, in place."""
    for name, child in module.named_children():
        if isinstance(child, FusedDynamicConv2d):
            setattr(module, name, form(child.conv, child.shift))
        elif isinstance(child, DynamicConv2d):
            setattr(module, name, form(child))
        else:
            _take_form(child, form)


def _export(
    graph: nn.Module,
    example: Tensor,
    input_name: str,
    output_names: list[str],
    metadata: Mapping[str, str],
    *,
    free_batch: bool,
) -> bytes:
    if find_spec("onnx") is None:
        raise PoseError("export to ONNX: needs the package onnx; pip install 'dyconv-pose[export]'")
    import onnx

    with TemporaryDirectory() as folder, warnings.catch_warnings():
        # The tracer warns that sizes become constants, which is what we want, and that there is a newer exporter,
        # which needs another package.
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            graph.eval(),
            (example,),
            str(path),
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_axes={name: {0: "batch"} for name in (input_name, *output_names)} if free_batch else None,
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(metadata))
    return bytes(model.SerializeToString())


def heatmap_fn(session: Any) -> Heatmaps:
    """Return what `to_onnx` exported in the form of `PoseNet.heatmaps`, for tensors on the CPU."""

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([HEATMAPS], {"images": images.numpy()})[0])

    return run
