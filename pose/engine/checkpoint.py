"""Save and load checkpoints: all state that a run needs to resume exactly where it stopped.

A checkpoint is a weight file (`pose.models.weights`) that also holds optimizer, loss scaler, moving average, random
state and progress.
"""

from pathlib import Path
from typing import Any

import torch

from pose.config.base import ExperimentConfig
from pose.engine.state import Progress, TrainState
from pose.errors import CheckpointError, TrainingError
from pose.models.weights import load_strict, read_weights, saved_any_config, write_weights

TRAINING_KEYS = {"model", "ema", "optimizer", "scaler", "progress", "random", "config"}


def save_checkpoint(state: TrainState, config: ExperimentConfig, path: Path) -> None:
    """Write a checkpoint atomically.

    Raises:
        TrainingError: a weight is not finite; an existing file at ``path`` is kept.
    """
    weights = state.model.state_dict()
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise TrainingError(
            f"{path}: not written, as '{broken[0]}' and {len(broken) - 1} other weights are not finite; resume the "
            "last checkpoint with a lower train.learning_rate or train.gradient_clip set"
        )
    content: dict[str, Any] = {
        "model": weights,
        "ema": state.ema.model.state_dict() if state.ema is not None else None,
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "progress": vars(state.progress).copy(),
        "random": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
        "config": config.model_dump(mode="json"),
    }
    write_weights(content, path)


def load_checkpoint(state: TrainState, path: Path) -> ExperimentConfig:
    """Load a checkpoint into ``state`` and return the config that it was written with.

    Raises:
        CheckpointError: the file holds weights only, or is of another model or optimizer.
    """
    content = read_weights(path)
    if not content.keys() >= TRAINING_KEYS:
        raise CheckpointError(
            f"{path}: holds weights but no training state (lacks {sorted(TRAINING_KEYS - content.keys())}); "
            "resume from last.pt"
        )
    load_strict(state.model, content["model"], path)
    if state.ema is not None:
        load_strict(state.ema.model, content["ema"] if content["ema"] is not None else content["model"], path)
    try:
        state.optimizer.load_state_dict(content["optimizer"])
    except ValueError:  # other parameter groups
        raise CheckpointError(
            f"{path}: its optimizer state does not match this run; start a new run with train.start={path}"
        ) from None
    state.scaler.load_state_dict(content["scaler"])
    state.progress = Progress(**content["progress"])
    torch.set_rng_state(content["random"]["cpu"])
    if content["random"]["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(content["random"]["cuda"])
    return saved_any_config(content, path)
