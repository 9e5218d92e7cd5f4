"""Exponential moving average of a net's weights: a smoother net than the last step's, at no cost in training."""

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)


class MovingAverage(Generic[Net]):
    """Keeps ``net``, the running average of another net's weights and buffers.

    Args:
        net: to follow; copied as it stands.
        decay: share of the old average that a step keeps. Early steps keep less, (1 + n) / (10 + n), so that a short
            run is not held back by its random start.
    """

    def __init__(self, net: Net, decay: float) -> None:
        self.net = deepcopy(net).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Move the average toward ``net`` after step number ``step``, counted from 0."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for average, value in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)
