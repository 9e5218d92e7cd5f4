"""Exponential moving average (EMA) of a model's weights and buffers."""

from copy import deepcopy

import torch
from torch import nn


class MovingAverage:
    """Exponential moving average of a model.

    Args:
        model: copied as the initial average.
        decay: weight of the old average in each update. The first updates use less, (1 + n) / (10 + n), so that the
            random initialization does not dominate a short run.

    Attributes:
        model: the average, in evaluation mode and without gradients.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Update the average with ``model`` after step number ``step``, counted from 0."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        for average, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(value)
