"""Save and load checkpoints: all state that a run needs to resume exactly where it stopped.

A checkpoint is a weight file (`pose.models.weights`) that also holds optimizer, loss scaler, moving average and
progress. It needs no random state: each step of training seeds its own (`pose.engine.trainer`).
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pose.config.base import ExperimentConfig
from pose.config.tree import flatten
from pose.engine.state import Progress, TrainState
from pose.errors import CheckpointError, TrainingError
from pose.models.weights import load_strict, read_weights, saved_any_config, write_weights

logger = logging.getLogger(__name__)

TRAINING_KEYS = {"model", "ema", "optimizer", "scaler", "progress", "config"}
OPTIMIZER_VALUES: Mapping[type, set[str]] = {
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    torch.optim.SGD: {"momentum_buffer"},
}
"""Names of what an optimizer keeps for each parameter."""


def save_checkpoint(state: TrainState, config: ExperimentConfig, path: Path) -> None:
    """Write a checkpoint atomically.

    Raises:
        TrainingError: a weight is not finite; an existing file at ``path`` is kept.
        MediaError: the file cannot be written; an existing file is kept.
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
        "config": config.model_dump(mode="json"),
    }
    write_weights(content, path)


def load_checkpoint(state: TrainState, path: Path) -> ExperimentConfig:
    """Load a checkpoint into ``state`` and return the config that it was written with.

    The options of the optimizer stay those of ``state``, except for the learning rate, which each step sets.

    Raises:
        CheckpointError: the file is damaged, holds weights only, or is of another model or optimizer.
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
    _load_optimizer(state.optimizer, content["optimizer"], path)
    _load_scaler(state.scaler, content["scaler"], path)
    state.progress = _to_progress(content["progress"], path)
    return saved_any_config(content, path)


def resume(state: TrainState, config: ExperimentConfig, path: Path) -> None:
    """Load a checkpoint and log each option that differs from the one it was written with; errors as above."""
    saved = dict(flatten(load_checkpoint(state, path).model_dump(mode="json")))
    logger.info("resumed %s after %d epochs and %d steps", path, state.progress.epoch, state.progress.step)
    for key, value in flatten(config.model_dump(mode="json")):
        if key != "name" and value != saved.get(key):
            logger.warning("%s is now %s, the checkpoint was written with %s", key, value, saved.get(key))


def _damaged(path: Path, part: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: its {part} is damaged; resume another checkpoint, or start a new run with train.start={path}"
    )


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: Any, path: Path) -> None:
    """Load what an optimizer keeps for each parameter; `Optimizer.load_state_dict` checks neither names nor shapes."""
    part = "optimizer state"
    try:
        values, groups = saved["state"], [list(group["params"]) for group in saved["param_groups"]]
        rates = [group["lr"] for group in saved["param_groups"]]
    except (KeyError, TypeError):
        raise _damaged(path, part) from None
    own = optimizer.state_dict()
    if groups != [group["params"] for group in own["param_groups"]]:
        raise CheckpointError(
            f"{path}: its optimizer state does not match this run; start a new run with train.start={path}"
        )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    # Empty before the first step, and after steps that fp16's loss scaler left out.
    if not isinstance(values, dict) or (values and values.keys() != set(range(len(parameters)))):
        raise _damaged(path, part)
    if not all(isinstance(rate, float) and 0 <= rate < math.inf for rate in rates):
        raise _damaged(path, f"{part} 'lr'")
    for row, value in values.items():
        if not isinstance(value, dict) or value.keys() != OPTIMIZER_VALUES.get(type(optimizer), value.keys()):
            raise _damaged(path, part)
        for name, tensor in value.items():
            shape = torch.Size() if name == "step" else parameters[row].shape
            if not _is_finite(tensor, shape) and not (name == "momentum_buffer" and tensor is None):
                raise _damaged(path, f"{part} '{name}'")
    for group, rate in zip(own["param_groups"], rates, strict=True):
        group["lr"] = rate
    optimizer.load_state_dict({**own, "state": values})


def _is_finite(value: object, shape: torch.Size) -> bool:
    """Return whether a value is a finite tensor of real numbers of a shape."""
    if not isinstance(value, torch.Tensor):
        return False
    return value.shape == shape and value.is_floating_point() and bool(value.isfinite().all())


def _load_scaler(scaler: torch.amp.GradScaler, saved: Any, path: Path) -> None:
    """Load the state of fp16's loss scaler; a run that changes to fp16 keeps that of a new run."""
    own = scaler.state_dict()
    if not own or saved == {}:
        return
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        raise _damaged(path, "loss scaler")
    if not all(type(value) in (int, float) and 0 <= value < math.inf for value in saved.values()):
        raise _damaged(path, "loss scaler")
    scaler.load_state_dict(saved)


def _to_progress(saved: Any, path: Path) -> Progress:
    """Return the progress of a run; each value is at least that of a new run, and of the same type."""
    initial = vars(Progress())
    if not isinstance(saved, dict) or saved.keys() != initial.keys():
        raise _damaged(path, "progress")
    for name, least in initial.items():
        value = saved[name]
        limit = 2**63 if type(least) is int else math.inf  # counts beyond 64 bits fit nowhere
        if type(value) not in {type(least), int} or not least <= value < limit:
            raise _damaged(path, f"progress '{name}'")
    return Progress(**saved)
