"""All state that training changes: model, optimizer, loss scaler, moving average, progress."""

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import nn

from pose.config.base import OptimizationConfig
from pose.engine.distributed import DistContext, wrap_model
from pose.engine.ema import MovingAverage


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        epoch: complete epochs.
        step: steps in the epoch that follows them.
        global_step: steps in all.
        samples: training samples seen in all.
        seconds: training time in all.
        best_score: best validation score so far, AP or accuracy; -1 before the first.
    """

    epoch: int = 0
    step: int = 0
    global_step: int = 0
    samples: int = 0
    seconds: float = 0.0
    best_score: float = -1.0


@dataclass
class TrainState:
    """All state that training changes.

    Attributes:
        model: as it is saved.
        optimizer: of its weights.
        scaler: of the loss, for fp16.
        ema: moving average of the weights, if the run keeps one.
        wrapped_model: ``model`` as training calls it: wrapped for several ranks, or compiled.
        progress: how far the run is.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: MovingAverage | None
    wrapped_model: nn.Module
    progress: Progress = field(default_factory=Progress)

    @property
    def best_model(self) -> nn.Module:
        """The model to validate: the moving average where there is one."""
        return self.ema.model if self.ema is not None else self.model


def make_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    options: OptimizationConfig,
    dist: DistContext,
) -> TrainState:
    """Wrap, scale and average a model as ``options`` say.

    Args:
        model: on its device.
        optimizer: of its weights, in two groups: backbone and head.
        options: the optimization.
        dist: this process.
    """
    if options.channels_last:
        to_channels_last(model)
    wrapped = wrap_model(model, dist, options.sync_batch_norm, options.accumulate)
    scaler = torch.amp.GradScaler(dist.device.type, enabled=options.precision == "fp16")
    ema = MovingAverage(model, options.ema_decay) if options.ema_decay else None
    if options.compile:
        wrapped = cast(nn.Module, torch.compile(wrapped))
    return TrainState(model, optimizer, scaler, ema, wrapped)


def to_channels_last(model: nn.Module) -> None:
    """Convert 4-D weights to NHWC memory, in place. `Module.to` fails on the 5-D kernels of dynamic convolution."""
    for weight in model.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
