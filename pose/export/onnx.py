"""Export a pose model to ONNX; `pose.export.verify` compares the file with the model.

Batch norm is fused by `pose.models.fuse`, and each dynamic convolution becomes a variant from
`pose.models.fused_conv`. The default, `BatchFreeDynamicConv2d`, is for ONNX Runtime: the batch size is free, the graph
has no loops or branches, and even for one crop it is faster than mixing the kernels and convolving (measured in its
docstring). For OpenVINO, `pose.export.write` exports a dynamic model for one crop, with `OneSampleDynamicConv2d`.
"""

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from pose.config.pose import STRIDE
from pose.errors import PoseError
from pose.files import writing
from pose.heatmap import TIE, flip_average
from pose.inference.metadata import CROPS, HEATMAPS, KEYPOINTS, SCORES, ExportMetadata
from pose.inference.pytorch import HeatmapFn, normalize
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.fuse import fuse
from pose.models.fused_conv import (
    BackendDynamicConv2d,
    BatchFreeDynamicConv2d,
    FusedDynamicConv2d,
    OneSampleDynamicConv2d,
)
from pose.models.pose_net import PoseNet

OPSET = 17


def to_onnx(model: PoseNet, size_hw: tuple[int, int]) -> bytes:
    """Export a model to ONNX: normalized ``images`` (N, 3, H, W) to ``heatmaps`` (N, K, H / 4, W / 4).

    Args:
        model: static or dynamic; not modified.
        size_hw: height and width of the input in pixels.

    Returns:
        The content of the ONNX file.

    Raises:
        PoseError: the package onnx is not installed.
    """
    images = torch.zeros((1, 3, *size_hw))
    return _export(_HeatmapModel(model, BatchFreeDynamicConv2d), images, "images", [HEATMAPS], {}, free_batch=True)


def predictor_to_onnx(model: PoseNet, metadata: ExportMetadata, *, decodes: bool, one_crop: bool = False) -> bytes:
    """Export a model with pre- and post-processing to ONNX: ``crops`` (N, h, w, 3) uint8 RGB to ``heatmaps``.

    The graph normalizes the crops, and averages with the flipped crops if ``metadata.flip_shift`` is set. The metadata
    is written into the file and is all that `pose.inference.exported.ExportedPredictor` needs.

    Args:
        model: static or dynamic; not modified.
        metadata: of the exported file.
        decodes: add the outputs ``keypoints`` (N, K, 2), x, y in crop pixels, and ``scores`` (N, K).
        one_crop: fix N to 1.

    Returns:
        The content of the ONNX file.

    Raises:
        PoseError: the package onnx is not installed.
    """
    predictor = _Predictor(model, metadata, decodes, OneSampleDynamicConv2d if one_crop else BatchFreeDynamicConv2d)
    crops = torch.zeros((1, *metadata.input_config.size_hw, 3), dtype=torch.uint8)
    outputs = [HEATMAPS, KEYPOINTS, SCORES] if decodes else [HEATMAPS]
    return _export(predictor, crops, CROPS, outputs, metadata.to_properties(), free_batch=not one_crop)


def is_dynamic(model: nn.Module) -> bool:
    """Return whether a model has dynamic convolutions."""
    return any(isinstance(layer, DynamicConv2d) for layer in model.modules())


class _HeatmapModel(nn.Module):
    """A fused pose model for tracing, from normalized images to heatmaps."""

    def __init__(self, model: PoseNet, variant: type[BackendDynamicConv2d]) -> None:
        super().__init__()
        self.model = fuse(model).cpu()
        self.variant = variant
        _replace_dynamic_convs(self.model, variant)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images (N, 3, H, W) to heatmaps (N, K, H / 4, W / 4)."""
        if self.variant is OneSampleDynamicConv2d:
            return torch.cat([self.model.heatmaps(image) for image in images.split(1)])
        return self.model.heatmaps(images)


class _Predictor(nn.Module):
    """`pose.inference.pytorch.predict_heatmaps`, optionally followed by decoding, for tracing."""

    def __init__(
        self, model: PoseNet, metadata: ExportMetadata, decodes: bool, variant: type[BackendDynamicConv2d]
    ) -> None:
        super().__init__()
        self.heatmap_fn = _HeatmapModel(model, variant)
        self.metadata, self.decodes = metadata, decodes

    def forward(self, crops_rgb: Tensor) -> tuple[Tensor, ...]:
        """Map (N, h, w, 3) uint8 crops to heatmaps and, with decoding, keypoints and scores."""
        images = normalize(crops_rgb)
        if self.metadata.flip_shift is None:
            heatmaps = self.heatmap_fn(images)
        else:
            # Both in one batch: calling the model twice would write it into the graph twice.
            both = torch.stack([images, images.flip(-1)], 1).flatten(0, 1)
            heatmaps, flipped = self.heatmap_fn(both).unflatten(0, (-1, 2)).unbind(1)
            heatmaps = flip_average(heatmaps, flipped, self.metadata.skeleton.flip_pairs, self.metadata.flip_shift)
        return (heatmaps, *decode_in_graph(heatmaps)) if self.decodes else (heatmaps,)


def decode_in_graph(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Decode heatmaps like `pose.heatmap.decode`, with traceable operators.

    Args:
        heatmaps: (N, K, H, W), finite.

    Returns:
        keypoints (N, K, 2) x, y in crop pixels (four per heatmap pixel) and scores (N, K).
    """
    height, width = (int(side) for side in heatmaps.shape[2:])
    flat = heatmaps.flatten(2)
    peak = flat.argmax(2, keepdim=True)
    scores = flat.gather(2, peak)
    y = torch.div(peak, width, rounding_mode="trunc")
    x = peak - y * width
    inner = (scores > 0) & (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)

    rounding = TIE * scores.clamp_min(torch.finfo(scores.dtype).tiny / TIE)

    def quarter_offset(step: int) -> Tensor:
        after, before = (flat.gather(2, (peak + s).clamp(0, height * width - 1)) for s in (step, -step))
        direction = ((after - before) / rounding).clamp(-1, 1)
        tie = 1 - ((scores - before) / rounding).clamp(0, 1)
        return (direction / 4 - tie / 2) * inner

    keypoints = torch.cat([x + quarter_offset(1), y + quarter_offset(width)], 2) * (scores > 0)
    return keypoints * STRIDE, scores.squeeze(2)


def _replace_dynamic_convs(module: nn.Module, variant: type[BackendDynamicConv2d]) -> None:
    """Replace the dynamic convolutions of a fused model by a backend's variant, in place."""
    for name, child in module.named_children():
        if isinstance(child, FusedDynamicConv2d):
            setattr(module, name, variant(child.conv, child.shift))
        elif isinstance(child, DynamicConv2d):
            setattr(module, name, variant(child))
        else:
            _replace_dynamic_convs(child, variant)


def _export(
    module: nn.Module,
    example: Tensor,
    input_name: str,
    output_names: list[str],
    properties: Mapping[str, str],
    *,
    free_batch: bool,
) -> bytes:
    if find_spec("onnx") is None:
        raise PoseError("export to ONNX: needs the package onnx; pip install 'dyconv-pose[export]'")
    import onnx

    with TemporaryDirectory() as folder, warnings.catch_warnings():
        # The tracer warns that sizes become constants, which is intended, and that there is a newer exporter, which
        # needs another package.
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        with writing(path):
            torch.onnx.export(
                module.eval(),
                (example,),
                str(path),
                input_names=[input_name],
                output_names=list(output_names),
                dynamic_axes={name: {0: "batch"} for name in (input_name, *output_names)} if free_batch else None,
                opset_version=OPSET,
                dynamo=False,
            )
        model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(properties))
    return bytes(model.SerializeToString())


def session_heatmap_fn(session: Any) -> HeatmapFn:
    """Return a session of a `to_onnx` file as a function like `PoseNet.heatmaps`, for tensors on the CPU."""

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([HEATMAPS], {"images": images.numpy()})[0])

    return run
