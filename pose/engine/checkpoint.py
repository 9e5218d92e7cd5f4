"""Whole checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is a weight file (`pose.models.weights`) that also holds optimizer, loss scaler, moving average, random states,
where in which epoch the run was, and the best score so far.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from pose.config.base import ExperimentConfig
from pose.engine.ema import MovingAverage
from pose.errors import CheckpointError, TrainingError
from pose.models.weights import load_strict, read_weights, saved_any_config, write_weights

Model = TypeVar("Model", bound=nn.Module)

TRAINING_KEYS = {"model", "ema", "optimizer", "scaler", "progress", "random", "config"}


@dataclass
class Progress:
    """Where a run is.

    Attributes:
        epoch: whole epochs done.
        step: steps done in the next epoch.
        global_step: steps done in all.
        samples: persons or images seen in all.
        seconds: spent training in all.
        best_score: best validation AP or accuracy so far, -1 before the first.
    """

    epoch: int = 0
    step: int = 0
    global_step: int = 0
    samples: int = 0
    seconds: float = 0.0
    best_score: float = -1.0


@dataclass
class Training(Generic[Model]):
    """All state that training changes."""

    model: Model
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: MovingAverage[Model] | None
    progress: Progress = field(default_factory=Progress)

    @property
    def best_model(self) -> Model:
        """The model to validate: the moving average where there is one."""
        return self.ema.model if self.ema is not None else self.model


def save_checkpoint(training: Training[Any], config: ExperimentConfig, path: Path) -> None:
    """Write a whole checkpoint atomically.

    Raises:
        TrainingError: a weight is not finite; what ``path`` held before stays.
    """
    state = training.model.state_dict()
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise TrainingError(
            f"{path}: not written, as '{broken[0]}' and {len(broken) - 1} other weights are not finite; resume the one "
            "before with a lower train.learning_rate or train.gradient_clip set"
        )
    content: dict[str, Any] = {
        "model": state,
        "ema": training.ema.model.state_dict() if training.ema is not None else None,
        "optimizer": training.optimizer.state_dict(),
        "scaler": training.scaler.state_dict(),
        "progress": vars(training.progress).copy(),
        "random": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
        "config": config.model_dump(mode="json"),
    }
    write_weights(content, path)


def load_checkpoint(training: Training[Any], path: Path) -> ExperimentConfig:
    """Put a checkpoint's state into ``training`` and return the config it was written with.

    Raises:
        CheckpointError: it holds weights only, or was written for another model or by another version.
    """
    content = read_weights(path)
    if not content.keys() >= TRAINING_KEYS:
        raise CheckpointError(
            f"{path}: holds weights but no training state (lacks {sorted(TRAINING_KEYS - content.keys())}); "
            "resume from last.pt"
        )
    load_strict(training.model, content["model"], path)
    if training.ema is not None:
        load_strict(training.ema.model, content["ema"] if content["ema"] is not None else content["model"], path)
    try:
        training.optimizer.load_state_dict(content["optimizer"])
    except ValueError:  # other groups of weights: backbone and head were one before they had rates of their own
        raise CheckpointError(
            f"{path}: its optimizer state is of another version; begin a new run with train.start={path}"
        ) from None
    training.scaler.load_state_dict(content["scaler"])
    training.progress = Progress(**content["progress"])
    torch.set_rng_state(content["random"]["cpu"])
    if content["random"]["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(content["random"]["cuda"])
    return saved_any_config(content, path)
