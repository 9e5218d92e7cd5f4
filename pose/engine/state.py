"""All state that training changes: model, optimizer, loss scaler, moving average, progress."""

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import nn

from pose.config.base import OptimizationConfig
from pose.engine.distributed import DistContext, wrap_model
from pose.engine.ema import MovingAverage
from pose.models.classifier import Classifier
from pose.models.make_dynamic import attention_parameters
from pose.models.pose_net import PoseNet


@dataclass
class Progress:
    """Training progress of a run.

    Attributes:
        epoch: number of complete epochs.
        step: number of steps in the epoch after them.
        global_step: total number of steps.
        samples: total number of training samples seen.
        seconds: total training time.
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
        model: the unwrapped model, whose weights are saved.
        optimizer: optimizer of its weights.
        scaler: loss scaler for fp16.
        ema: moving average of the weights, if enabled.
        wrapped_model: ``model`` wrapped in DistributedDataParallel, or compiled; training calls it.
        progress: training progress.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: MovingAverage | None
    wrapped_model: nn.Module
    progress: Progress = field(default_factory=Progress)

    @property
    def best_model(self) -> nn.Module:
        """The model to validate: the moving average if enabled, else the model."""
        return self.ema.model if self.ema is not None else self.model


def parameter_groups(model: PoseNet | Classifier, options: OptimizationConfig) -> list[dict[str, list[nn.Parameter]]]:
    """Return the parameter groups of a model: backbone, head and, if it has its own learning rate, the attention."""
    parts = [list(part.parameters()) for part in (model.backbone, model.head)]
    if options.attention_learning_rate is not None:
        attention = attention_parameters(model)
        own = set(attention)
        parts = [*([weight for weight in part if weight not in own] for part in parts), attention]
    return [{"params": part} for part in parts]


def make_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    options: OptimizationConfig,
    dist: DistContext,
) -> TrainState:
    """Build the training state of a model: memory layout, distributed wrapper, loss scaler, EMA, compilation.

    Args:
        model: on its device.
        optimizer: optimizer of its weights, in the groups of `parameter_groups`.
        options: optimization options.
        dist: rank, world size and device.
    """
    if options.channels_last:
        model.to(memory_format=torch.channels_last)
    wrapped = wrap_model(model, dist, options.sync_batch_norm, options.accumulate)
    scaler = torch.amp.GradScaler(dist.device.type, enabled=options.precision == "fp16")
    ema = MovingAverage(model, options.ema_decay) if options.ema_decay else None
    if options.compile:
        wrapped = cast(nn.Module, torch.compile(wrapped))
    return TrainState(model, optimizer, scaler, ema, wrapped)
