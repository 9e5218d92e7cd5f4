"""Parameters and multiply-adds of a model, counted per layer in a forward pass on the meta device.

As in the paper, multiply-adds are those of convolutions and linear layers; batch norm, activations and biases are not
counted. A dynamic convolution adds its attention and the aggregation of its kernels (paper, section 3.2).
"""

import copy
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pose.config.classification import ClassificationConfig
from pose.config.loader import AnyConfig
from pose.models import build_classifier, build_pose_net
from pose.models.classifier import Classifier
from pose.models.dynamic_layers import DynamicConvTranspose2d
from pose.models.kernel_attention import DynamicLayer, KernelAttention
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
    meta_module = copy.deepcopy(module).to("meta")
    madds, output = count_madds(meta_module, x)
    return Complexity(sum(p.numel() for p in module.parameters()), sum(map(sum, madds.values()))), output


class Madds(NamedTuple):
    """Multiply-adds of a layer: what a static one needs, and what attention and aggregation add."""

    static: int
    added: int = 0


@torch.no_grad()
def count_madds(model: nn.Module, *inputs: Any) -> tuple[dict[str, Madds], Any]:
    """Run ``model`` once in evaluation mode and count the multiply-adds of its layers.

    Returns:
        the multiply-adds of each convolution and linear layer that was called, by name, and the model's output. The
        attention of a dynamic layer has the layer's name.
    """
    madds: dict[str, Madds] = {}
    handles = [
        layer.register_forward_hook(partial(_add_madds, madds, name.removesuffix(".attention")))
        for name, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, _ConvNd, KernelAttention, DynamicLayer))
    ]
    modes = {layer: layer.training for layer in model.modules()}
    try:
        output = model.eval()(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for layer, mode in modes.items():
            layer.training = mode
    return madds, output


def _add_madds(madds: dict[str, Madds], name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
    before, madd = madds.get(name, Madds(0)), _layer_madds(layer, inputs[0].shape, output.shape)
    madds[name] = Madds(before.static + madd.static, before.added + madd.added)


def _layer_madds(layer: nn.Module, input_shape: torch.Size, output_shape: torch.Size) -> Madds:
    """Return the multiply-adds of ``layer`` without those of its children."""
    if isinstance(layer, nn.Linear):
        return Madds(prod(output_shape) * layer.in_features)
    if isinstance(layer, _ConvNd):
        outer = input_shape if isinstance(layer, _ConvTransposeNd) else output_shape
        return Madds(prod(outer) * prod(layer.weight.shape[1:]))
    if isinstance(layer, KernelAttention):  # uses the weights of its linear layers without calling them
        return Madds(0, input_shape[0] * sum(p.numel() for p in layer.parameters() if p.dim() == 2))
    if isinstance(layer, DynamicLayer):
        samples = 1 if len(input_shape) == layer.sample_dims else input_shape[0]
        pooling = prod(input_shape) if len(input_shape) > 2 else 0
        kernels = sum(p.numel() for p in (layer.weight, layer.bias) if p is not None)
        outer = input_shape if isinstance(layer, DynamicConvTranspose2d) else output_shape
        return Madds(prod(outer) * prod(layer.weight.shape[2:]), pooling + samples * kernels)
    return Madds(0)
