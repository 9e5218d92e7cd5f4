"""Inflation: initialize a dynamic model from a trained static one, with the same outputs.

K copies of a static kernel, weighted by a softmax that sums to 1, compute what the static kernel does, at any
temperature and for any attention. Training separates the copies because the attention is not uniform: a kernel gets
larger gradients from the inputs that weight it more. How fast depends on how much the attention varies between inputs;
`pose.engine.calibration` scales it for that.

Sigmoid weights (CondConv) do not sum to a constant. Their attention therefore starts uniform (linear layer zero), and
the kernels start with random differences around the static kernel; identical kernels would get identical gradients
forever.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pose.models.kernel_attention import DynamicLayer

SIGMOID_SPREAD = 0.1
"""Standard deviation of the kernels around their mean, relative to that of the static kernel's weights."""


def inflate(state: Mapping[str, Tensor], model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Return a state dict for the dynamic ``model`` that computes what the static ``state`` does.

    Layers that are static in ``model`` or already dynamic in ``state`` are passed through unchanged.

    Args:
        state: state dict of a model that differs from ``model`` only in having static layers.
        model: model with dynamic layers; not changed. The new attentions keep their weights from it.
        seed: of the random differences between kernels with sigmoid attention.
    """
    generator = torch.Generator().manual_seed(seed)
    inflated = dict(state)
    for prefix, layer in new_layers(state, model).items():
        weight, bias = state[f"{prefix}weight"], state.get(f"{prefix}bias")
        kernels = weight.repeat(layer.num_kernels, *[1] * weight.dim())
        attention = {key: value.clone() for key, value in layer.attention.state_dict().items()}
        attention_sum = 1.0
        if layer.attention.kind == "sigmoid":
            differences = torch.randn(kernels.shape, generator=generator).to(kernels)
            differences -= differences.mean(dim=0)
            kernels += SIGMOID_SPREAD * weight.std(correction=0) * differences
            attention |= {key: torch.zeros_like(value) for key, value in attention.items() if key.startswith("fc2.")}
            attention_sum = layer.num_kernels / 2  # K times sigmoid(0)
        inflated |= {f"{prefix}attention.{key}": value for key, value in attention.items()}
        inflated[f"{prefix}weight"] = kernels / attention_sum
        if bias is not None:
            inflated[f"{prefix}bias"] = (bias / attention_sum).repeat(layer.num_kernels, 1)
    return inflated


def new_layers(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, DynamicLayer]:
    """Return the layers that are dynamic in ``model`` and static in ``state``, by name prefix in ``state``."""
    named = ((f"{name}." if name else "", layer) for name, layer in model.named_modules())
    return {
        prefix: layer
        for prefix, layer in named
        if isinstance(layer, DynamicLayer)
        and f"{prefix}weight" in state
        and f"{prefix}attention.fc2.weight" not in state
    }
