"""Backbone weights from elsewhere, as state dicts of ours: torchvision's classifiers and MoveNet's ONNX files.

To learn another source, add a function from its file to a state dict of one of `pose.models`, and a case in
`pose.engine.initialize`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pose.errors import CheckpointError
from pose.images import IMAGENET_MEAN, IMAGENET_STD
from pose.models.backbones.blocks import ConvBNAct
from pose.models.backbones.mobilenet_v2 import MobileNetV2

_WHAT_TO_CHECK = (
    "check model.backbone, model.width and model.depth; torchvision's mobilenet_v3_small has model.last_squeeze=false "
    "and model.early_stride=false"
)


def from_torchvision(state: Mapping[str, Tensor], backbone: nn.Module, path: Path) -> dict[str, Tensor]:
    """Rename a torchvision classifier's state dict to our static backbone's; the classifier itself is left out.

    Both list the same layers in the same order; every kind of tensor and every shape is checked.

    Args:
        state: as torchvision's weight files (``.pth``) hold it.
        backbone: static, of the same family, width and depth. MobileNetV3's early strides have the same tensors as the
            final ones, so that they are loaded, and find features that they were not trained for.
        path: for the message.

    Raises:
        CheckpointError: the layers do not agree.
    """
    theirs = {name: value for name, value in state.items() if not name.startswith(("classifier.", "fc."))}
    ours = backbone.state_dict()
    if len(theirs) != len(ours):
        raise CheckpointError(
            f"{path}: expected the {len(ours)} tensors of this backbone as torchvision saves it, got {len(theirs)}; "
            f"{_WHAT_TO_CHECK}"
        )
    for (name, value), (their_name, their_value) in zip(ours.items(), theirs.items(), strict=True):
        kind, their_kind = name.rpartition(".")[2], their_name.rpartition(".")[2]
        if kind != their_kind or value.shape != their_value.shape:
            raise CheckpointError(
                f"{path}: expected {list(value.shape)} for '{name}', got {list(their_value.shape)} in '{their_name}'; "
                f"{_WHAT_TO_CHECK}"
            )
    return dict(zip(ours, theirs.values(), strict=True))


def from_movenet(path: Path) -> dict[str, Tensor]:
    """Return MoveNet Lightning's MobileNetV2 as the state dict of our static one at width 1.

    MoveNet (Google, Apache-2.0) has batch norm folded into its convolutions, so that ours come out with statistics 0
    and 1 that say nothing: before training on batch statistics, see `pose.engine.initialize.calibrate_batch_norm`. It takes
    RGB in [-1, 1]; the stem is rescaled to our ImageNet normalization. It pads strided convolutions at the right and
    bottom only, where ours pad all round, so our features lie half an output pixel to the left and top at each of the
    five levels; the tests compare both under its padding.

    Raises:
        CheckpointError: the file cannot be read, or holds another model.
    """
    convolutions = _onnx_convolutions(path)
    backbone = MobileNetV2()
    state = backbone.state_dict()
    found = iter(convolutions)
    for name, layer in backbone.named_modules():
        if not isinstance(layer, ConvBNAct):
            continue
        shape = state[f"{name}.conv.weight"].shape
        # Between the stages lie 1x1 laterals of its decoder, which are of no shape that is next.
        weight, bias = next(((w, b) for w, b in found if w.shape == shape and b.shape == shape[:1]), (None, None))
        if weight is None or bias is None:
            raise CheckpointError(f"{path}: no convolution of {list(shape)} for '{name}'; expected MoveNet Lightning")
        if name == "stem":
            weight, bias = _for_imagenet_inputs(weight, bias)
        state[f"{name}.conv.weight"] = weight
        state[f"{name}.bn.weight"] = torch.full_like(bias, (1 + layer.bn.eps) ** 0.5)
        state[f"{name}.bn.bias"] = bias
    return state


def _onnx_convolutions(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of every convolution that has both, in the order of the graph."""
    try:
        import onnx
    except ImportError:
        raise CheckpointError(f"{path}: reading ONNX files needs the package onnx; pip install onnx") from None
    try:
        graph = onnx.load(str(path)).graph
        tensors = {tensor.name: np.array(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such weight file") from None
    except Exception as error:  # protobuf's and onnx's own errors have no common class
        raise CheckpointError(f"{path}: not a readable ONNX file ({type(error).__name__})") from None
    names = [node.input[1:] for node in graph.node if node.op_type == "Conv" and len(node.input) == 3]
    return [
        (torch.from_numpy(tensors[weight]), torch.from_numpy(tensors[bias]))
        for weight, bias in names
        if weight in tensors and bias in tensors
    ]


def _for_imagenet_inputs(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Rescale a stem from RGB in [-1, 1] to RGB of ImageNet's mean 0 and deviation 1."""
    scale = 2 * torch.tensor(IMAGENET_STD)[None, :, None, None]
    shift = (2 * torch.tensor(IMAGENET_MEAN) - 1)[None, :, None, None]
    return weight * scale, bias + (weight * shift).sum(dim=(1, 2, 3))
