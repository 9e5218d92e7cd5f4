"""Convert pretrained backbone weights of other projects: torchvision's classifiers and MoveNet's ONNX file.

To support another source, add a function from its file to a state dict of a model in `pose.models`, and a case in
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

_HINT = (
    "check model.backbone, model.width and model.depth; torchvision's mobilenet_v3_small needs "
    "model.last_squeeze=false and model.early_stride=false"
)


def from_torchvision(state: Mapping[str, Tensor], backbone: nn.Module, path: Path) -> dict[str, Tensor]:
    """Rename the state dict of a torchvision classifier to that of our static backbone, without the classifier's head.

    Both have the same layers in the same order. The kind (weight, bias, ...) and the shape of every tensor are checked.

    Args:
        state: content of a torchvision weight file (``.pth``).
        backbone: static backbone of the same family, width and depth; not changed. MobileNetV3 with early strides has
            the same tensors as the published variant, so the weights load, but were not trained for it.
        path: of the weight file, for error messages.

    Raises:
        CheckpointError: a tensor is missing, or has another kind or shape.
    """
    source = {name: value for name, value in state.items() if not name.startswith(("classifier.", "fc."))}
    target = backbone.state_dict()
    if len(source) != len(target):
        raise CheckpointError(
            f"{path}: expected the {len(target)} tensors of this backbone as torchvision saves it, got {len(source)}; "
            f"{_HINT}"
        )
    for (name, value), (source_name, source_value) in zip(target.items(), source.items(), strict=True):
        kind, source_kind = name.rpartition(".")[2], source_name.rpartition(".")[2]
        if kind != source_kind or value.shape != source_value.shape:
            raise CheckpointError(
                f"{path}: expected {list(value.shape)} for '{name}', got {list(source_value.shape)} in "
                f"'{source_name}'; {_HINT}"
            )
    return dict(zip(target, source.values(), strict=True))


def from_movenet(path: Path) -> dict[str, Tensor]:
    """Return the MobileNetV2 of MoveNet Lightning as a state dict of our static MobileNetV2 of width 1.

    MoveNet (Google, Apache-2.0) differs from our backbone in three ways:

    - Its batch norm is fused. Ours gets running mean 0 and variance 1, which are not the statistics of any data: before
      training on batch statistics, use `pose.engine.calibration.calibrate_batch_norm`.
    - It takes RGB in [-1, 1]. The stem is rescaled to our ImageNet normalization.
    - It pads strided convolutions at the right and bottom only, ours on all sides. At each of the five strided levels
      our features are half an output pixel further to the left and top. The tests compare both with MoveNet's padding.

    Args:
        path: MoveNet Lightning as an ONNX file.

    Raises:
        CheckpointError: the file cannot be read or is another model, or the package onnx is not installed.
    """
    backbone = MobileNetV2()
    state = backbone.state_dict()
    convolutions = iter(_onnx_convolutions(path))
    for name, layer in backbone.named_modules():
        if not isinstance(layer, ConvBNAct):
            continue
        shape = state[f"{name}.conv.weight"].shape
        # Skips the 1x1 lateral convolutions of the decoder between the stages: none has the shape of the next layer.
        weight, bias = next(
            ((w, b) for w, b in convolutions if w.shape == shape and b.shape == shape[:1]), (None, None)
        )
        if weight is None or bias is None:
            raise CheckpointError(f"{path}: no convolution of {list(shape)} for '{name}'; expected MoveNet Lightning")
        if name == "stem":
            weight, bias = _rescale_stem(weight, bias)
        state[f"{name}.conv.weight"] = weight
        state[f"{name}.bn.weight"] = torch.full_like(bias, (1 + layer.bn.eps) ** 0.5)
        state[f"{name}.bn.bias"] = bias
    return state


def _onnx_convolutions(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Return weight and bias of every convolution that has both, in graph order."""
    try:
        import onnx
    except ImportError:
        raise CheckpointError(f"{path}: reading ONNX files requires the package onnx; pip install onnx") from None
    try:
        graph = onnx.load(str(path)).graph
        tensors = {tensor.name: np.array(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such weight file") from None
    except Exception as error:  # the errors of protobuf and onnx have no common base class
        raise CheckpointError(f"{path}: not a readable ONNX file ({type(error).__name__})") from None
    names = [node.input[1:] for node in graph.node if node.op_type == "Conv" and len(node.input) == 3]
    return [
        (torch.from_numpy(tensors[weight]), torch.from_numpy(tensors[bias]))
        for weight, bias in names
        if weight in tensors and bias in tensors
    ]


def _rescale_stem(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Convert a stem for RGB in [-1, 1] to one for RGB normalized by ImageNet's mean and standard deviation."""
    scale = 2 * torch.tensor(IMAGENET_STD)[None, :, None, None]
    shift = (2 * torch.tensor(IMAGENET_MEAN) - 1)[None, :, None, None]
    return weight * scale, bias + (weight * shift).sum(dim=(1, 2, 3))
