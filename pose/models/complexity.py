"""Parameters and multiply-adds of a model, counted per layer in a forward pass on the meta device.

As in the paper, multiply-adds are those of convolutions and linear layers; batch norm, activations and biases are not
counted. A dynamic convolution adds its attention and the aggregation of its kernels (paper, section 3.2).
"""

import copy
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from pose.config.classification import ClassificationConfig
from pose.config.loader import AnyConfig
from pose.models import build_classifier, build_pose_net
from pose.models.classifier import Classifier
from pose.models.dynamic_conv import DynamicConv2d, KernelAttention
from pose.models.pose_net import PoseNet


@dataclass(frozen=True)
class Complexity:
    """Size and cost of a module.

    Attributes:
        params: number of trained parameters.
        madds: multiply-adds of one forward pass.
    """

    params: int
    madds: int


def count_config(config: AnyConfig) -> dict[str, int]:
    """Count the model of a config for one image of its input size, see `count_parts`; allocates no weights."""
    with torch.device("meta"):
        model = build_classifier(config) if isinstance(config, ClassificationConfig) else build_pose_net(config)
    return count_parts(model, config.input.size_hw)


def count_parts(model: PoseNet | Classifier, size_hw: tuple[int, int]) -> dict[str, int]:
    """Return backbone_params, backbone_madds, head_params and head_madds for one image of ``size_hw`` pixels."""
    backbone, features = count(model.backbone, torch.empty((1, 3, *size_hw), device="meta"))
    head, _ = count(model.head, features)
    return {
        "backbone_params": backbone.params,
        "backbone_madds": backbone.madds,
        "head_params": head.params,
        "head_madds": head.madds,
    }


def count(module: nn.Module, x: Tensor) -> tuple[Complexity, Tensor]:
    """Count ``module`` for the input ``x`` on the meta device, and return its output too; ``module`` is not changed."""
    meta_module = copy.deepcopy(module).to("meta").eval()
    madds = 0

    def add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        nonlocal madds
        madds += _layer_madds(layer, inputs[0].shape, output.shape)

    for layer in meta_module.modules():
        layer.register_forward_hook(add)
    with torch.no_grad():
        output = meta_module(x)
    return Complexity(sum(p.numel() for p in module.parameters()), madds), output


def _layer_madds(layer: nn.Module, input_shape: torch.Size, output_shape: torch.Size) -> int:
    """Return the multiply-adds of ``layer`` without those of its children."""
    if isinstance(layer, nn.Linear):
        return prod(output_shape) * layer.in_features
    if isinstance(layer, nn.ConvTranspose2d):
        return prod(input_shape) * prod(layer.weight.shape[1:])
    if isinstance(layer, nn.Conv2d):
        return prod(output_shape) * prod(layer.weight.shape[1:])
    if isinstance(layer, KernelAttention):  # uses the weights of its linear layers without calling them
        return input_shape[0] * (layer.fc1.weight.numel() + layer.fc2.weight.numel())
    if isinstance(layer, DynamicConv2d):
        pooling, kernels = prod(input_shape), sum(p.numel() for p in (layer.weight, layer.bias) if p is not None)
        return pooling + input_shape[0] * kernels + prod(output_shape) * prod(layer.weight.shape[2:])
    return 0
