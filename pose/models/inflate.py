"""Inflation: the weights of a trained static model become those of a dynamic one that starts with the same outputs.

K equal kernels, weighed by a softmax that sums to 1, compute what the one kernel did, at any temperature and for any
attention. They part as soon as training begins, because the attention is not flat: a kernel learns most from the
inputs that weigh it most. How fast depends on how differently inputs are weighed; `pose.engine.calibration` sees to that.

Sigmoid weights do not sum to a constant, so that this attention has to start flat (its second layer at zero) and the
kernels a little apart, around the static one: otherwise all would be moved alike for ever.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pose.models.dynamic_conv import DynamicConv2d

SIGMOID_SPREAD = 0.1
"""Deviation of the kernels from their mean, in standard deviations of the static kernel's weights."""


def inflate(state: Mapping[str, Tensor], model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Return the state dict for ``model`` that continues the static ``state``.

    Convolutions that are static in ``model``, or dynamic in ``state`` already, are passed on as they are.

    Args:
        state: of a model that differs from ``model`` only in convolutions being static.
        model: dynamic in some or all of its convolutions; not changed. What its attention starts from is taken.
        seed: of the differences between kernels under sigmoid attention.
    """
    generator = torch.Generator().manual_seed(seed)
    inflated = dict(state)
    for prefix, layer in new_layers(state, model).items():
        weight, bias = state[f"{prefix}weight"], state.get(f"{prefix}bias")
        kernels = weight.repeat(layer.num_kernels, *[1] * weight.dim())
        attention = {key: value.clone() for key, value in layer.attention.state_dict().items()}
        total = 1.0
        if layer.attention.kind == "sigmoid":
            differences = torch.randn(kernels.shape, generator=generator)
            differences -= differences.mean(dim=0)
            kernels += SIGMOID_SPREAD * weight.std(correction=0) * differences
            attention |= {key: torch.zeros_like(value) for key, value in attention.items() if key.startswith("fc2.")}
            total = layer.num_kernels / 2  # of K sigmoids of zero
        inflated |= {f"{prefix}attention.{key}": value for key, value in attention.items()}
        inflated[f"{prefix}weight"] = kernels / total
        if bias is not None:
            inflated[f"{prefix}bias"] = (bias / total).repeat(layer.num_kernels, 1)
    return inflated


def new_layers(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, DynamicConv2d]:
    """Return the convolutions of ``model`` that are dynamic there and static in ``state``, by their prefix in it."""
    named = ((f"{name}." if name else "", layer) for name, layer in model.named_modules())
    return {
        prefix: layer
        for prefix, layer in named
        if isinstance(layer, DynamicConv2d)
        and f"{prefix}weight" in state
        and f"{prefix}attention.fc1.weight" not in state
    }
