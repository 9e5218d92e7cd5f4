"""Exponential moving average of a model's weights: a smoother model than the last step's, at no cost in training."""

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


class MovingAverage(Generic[Model]):
    """Keeps ``model``, the running average of another model's weights and buffers.

    Args:
        model: to follow; copied as it stands.
        decay: share of the old average that a step keeps. Early steps keep less, (1 + n) / (10 + n), so that a short
            run is not held back by its random start.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model = deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average toward ``model`` after step number ``step``, counted from 0."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for average, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)
