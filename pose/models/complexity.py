"""Parameters and multiply-adds of a model, counted layer by layer while it runs on shapes without data.

Multiply-adds are those of convolutions and linear layers, as the paper counts them; batch norms, activations and
biases are free. A dynamic convolution adds its attention and the mixing of its kernels (paper, section 3.2).
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
    """What one sample costs.

    Attributes:
        params: trained numbers.
        madds: multiply-adds.
    """

    params: int
    madds: int


def count(module: nn.Module, input_shape: tuple[int, ...]) -> Complexity:
    """Count ``module`` for one input of ``input_shape``, batch included (``(1, 3, 256, 192)``); it is not changed."""
    return _run(module, torch.empty(input_shape, device="meta"))[0]


def count_config(config: AnyConfig) -> dict[str, int]:
    """Count the model of a config for one image of its input size, as `count_parts`; no weights are drawn."""
    with torch.device("meta"):
        model = build_classifier(config) if isinstance(config, ClassificationConfig) else build_pose_net(config)
    return count_parts(model, config.input.size_hw)


def count_parts(model: PoseNet | Classifier, size_hw: tuple[int, int]) -> dict[str, int]:
    """Return backbone_params, backbone_madds, head_params, head_madds for one image of ``size_hw`` pixels.

    Of a classifier the head is all that makes scores of the features.
    """
    backbone, features = _run(model.backbone, torch.empty((1, 3, *size_hw), device="meta"))
    head, _ = _run(model.head, features)
    return {
        "backbone_params": backbone.params,
        "backbone_madds": backbone.madds,
        "head_params": head.params,
        "head_madds": head.madds,
    }


def _run(module: nn.Module, x: Tensor) -> tuple[Complexity, Tensor]:
    twin = copy.deepcopy(module).to("meta").eval()
    madds = 0

    def add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        nonlocal madds
        madds += _layer_madds(layer, inputs[0].shape, output.shape)

    for layer in twin.modules():
        layer.register_forward_hook(add)
    with torch.no_grad():
        output = twin(x)
    return Complexity(sum(p.numel() for p in module.parameters()), madds), output


def _layer_madds(layer: nn.Module, input_shape: torch.Size, output_shape: torch.Size) -> int:
    """Multiply-adds of ``layer`` itself: what its children do is counted with them."""
    if isinstance(layer, nn.Linear):
        return prod(output_shape) * layer.in_features
    if isinstance(layer, nn.ConvTranspose2d):
        return prod(input_shape) * prod(layer.weight.shape[1:])
    if isinstance(layer, nn.Conv2d):
        return prod(output_shape) * prod(layer.weight.shape[1:])
    if isinstance(layer, KernelAttention):  # which does not call its layers
        return input_shape[0] * (layer.fc1.weight.numel() + layer.fc2.weight.numel())
    if isinstance(layer, DynamicConv2d):
        pooling, bank = prod(input_shape), [p.numel() for p in (layer.weight, layer.bias) if p is not None]
        return pooling + input_shape[0] * sum(bank) + prod(output_shape) * prod(layer.weight.shape[2:])
    return 0
