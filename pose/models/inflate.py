"""Inflation: the weights of a trained static net become those of a dynamic one that starts with the same outputs.

A dynamic convolution whose K kernels are all equal computes what the static one does, but stays so for ever: kernels of
equal gradients move alike, and an attention between equal kernels has no gradient. Two things together break the tie
and leave the outputs as they were (to rounding):

- the K kernels are the static one plus differences that sum to zero;
- the attention's second layer starts at zero, so that every input weighs the kernels alike, at any temperature.

The second layer then has a gradient from the first step, because the kernels differ, and parts them further.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pose.models.dynamic_conv import DynamicConv2d

SPREAD = 0.1
"""Deviation of the kernels from their mean, in standard deviations of the static kernel's weights."""


def inflate(state: Mapping[str, Tensor], net: nn.Module, spread: float = SPREAD, seed: int = 0) -> dict[str, Tensor]:
    """Return the state dict for ``net`` that continues the static ``state``.

    Convolutions that are static in ``net``, or dynamic in ``state`` already, are passed on as they are.

    Args:
        state: of a net that differs from ``net`` only in convolutions being static.
        net: dynamic in some or all of its convolutions; not changed. What its attention starts from is taken.
        spread: how far apart the kernels start; with 0 they could never part.
        seed: of the differences.
    """
    generator = torch.Generator().manual_seed(seed)
    inflated = dict(state)
    for name, module in net.named_modules():
        prefix = f"{name}." if name else ""
        weight = state.get(f"{prefix}weight")
        if not isinstance(module, DynamicConv2d) or weight is None or f"{prefix}attention.fc1.weight" in state:
            continue
        for key, value in module.attention.state_dict().items():
            inflated[f"{prefix}attention.{key}"] = torch.zeros_like(value) if key.startswith("fc2.") else value.clone()
        # At zero logits K softmax weights sum to 1, K sigmoids to K / 2.
        total = 1.0 if module.attention.kind == "softmax" else module.num_kernels / 2
        differences = torch.randn((module.num_kernels, *weight.shape), generator=generator)
        differences -= differences.mean(dim=0)
        inflated[f"{prefix}weight"] = (weight + spread * weight.std(correction=0) * differences) / total
        if module.bias is not None:
            inflated[f"{prefix}bias"] = (state[f"{prefix}bias"] / total).repeat(module.num_kernels, 1)
    return inflated
