"""Weight files: written whole or not at all, read without running code from them, loaded by strict names and shapes.

A weight file is a dict saved by `torch.save` with at least ``model`` (a state dict) and ``config`` (the resolved config
as plain values); a training checkpoint (`pose.engine.checkpoint`) is one with more keys.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from pose.config.classification import ClassificationConfig
from pose.config.loader import CONFIGS, AnyConfig
from pose.config.pose import Config
from pose.errors import CheckpointError
from pose.files import newest_below, replacing
from pose.models import build_classifier, build_pose_net
from pose.models.classifier import Classifier
from pose.models.pose_net import PoseNet

DEFAULT_WEIGHTS = Path(__file__).resolve().parents[1] / "default_model.pt"
"""The model that `PosePredictor` takes by itself; its card, ``default_model.md``, lies beside it."""


def write_weights(content: Mapping[str, Any], path: Path) -> None:
    """Write a weight file so that ``path`` always holds either the old or the new content, whatever interrupts."""
    with replacing(path) as temporary:
        torch.save(dict(content), temporary)


def read_weights(path: Path) -> dict[str, Any]:
    """Read a weight file to the CPU.

    Args:
        path: the file, or a folder of runs, whose newest ``best.pt`` (else ``last.pt``) is taken.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it is not one of ours.
    """
    file = find_weights(path) if path.is_dir() else path
    content = _read_tensors(file)
    if not isinstance(content, dict) or not {"model", "config"} <= content.keys():
        raise CheckpointError(f"{file}: expected a dict with 'model' and 'config' as tools/train.py writes it")
    return content


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read a bare state dict, as torchvision's weight files are.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it holds something else.
    """
    content = _read_tensors(path)
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise CheckpointError(f"{path}: expected a state dict of tensors, as torchvision's weight files are")
    return content


def _read_tensors(file: Path) -> object:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such weight file; a training run leaves best.pt in its run folder") from None
    except Exception as error:  # damaged bytes make the unpickler fail in many ways, IndexError and struct.error too
        # torch's own words go on for lines and advise to load without the guard against code
        raise CheckpointError(
            f"{file}: not a readable weight file of tensors and plain values only ({type(error).__name__}); "
            "take another copy or train it again"
        ) from None


def find_weights(folder: Path) -> Path:
    """Return the newest ``best.pt`` below a folder, or the newest ``last.pt`` where there is none.

    Raises:
        CheckpointError: the folder holds neither.
    """
    for name in ("best.pt", "last.pt"):
        newest = newest_below(folder, name)
        if newest is not None:
            return newest
    raise CheckpointError(f"{folder}: neither best.pt nor last.pt below this folder; has a training run written here?")


def saved_task(content: Mapping[str, Any]) -> str:
    """Return the task that a weight file was trained for; files older than classification do not say."""
    config = content["config"]
    return str(config.get("task", "pose")) if isinstance(config, Mapping) else "pose"


def saved_any_config(content: Mapping[str, Any], path: Path) -> AnyConfig:
    """Return the config that a weight file was trained with.

    Raises:
        CheckpointError: it does not fit this version's options.
    """
    try:
        return CONFIGS.get(saved_task(content), Config).model_validate(content["config"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{path}: its config does not fit this version: {where}: {first['msg']}") from None


def saved_config(content: Mapping[str, Any], path: Path) -> Config:
    """Return the config that a pose model's weight file was trained with.

    Raises:
        CheckpointError: it is another model's, or does not fit this version's options.
    """
    config = saved_any_config(content, path)
    if not isinstance(config, Config):
        raise CheckpointError(
            f"{path}: expected weights of a pose model, got a classifier's; test it with tools/test_imagenet.py, or "
            "begin a pose model with train.start"
        )
    return config


def load_strict(model: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Copy a state dict into a model; every name and shape must agree.

    Raises:
        CheckpointError: the first differences, and how many there are.
    """
    own = model.state_dict()
    problems = [f"lacks '{name}'" for name in own if name not in state]
    problems += [f"has '{name}', which the model has not" for name in state if name not in own]
    problems += [
        f"'{name}' is {list(state[name].shape)}, the model has {list(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    if problems:
        raise CheckpointError(
            f"{path}: made for another model: {'; '.join(problems[:3])} ({len(problems)} differences); "
            "use the config that it was trained with"
        )
    model.load_state_dict(dict(state))


def inference_state(content: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
    """Return the weights to predict with: the moving average where the run kept one."""
    state: Mapping[str, torch.Tensor] = content["ema"] if content.get("ema") is not None else content["model"]
    return state


def load_weights_for(config: Config, path: Path) -> PoseNet:
    """Build the model of ``config`` with the weights of a file, in evaluation mode.

    Raises:
        CheckpointError: the file was trained as another model, or its output means something else.
    """
    content = read_weights(path)
    trained = saved_config(content, path)
    for key, ours, theirs in (
        ("train.loss", config.train.loss, trained.train.loss),
        ("input.sigma", config.input.sigma, trained.input.sigma),
    ):
        if ours != theirs:
            raise CheckpointError(
                f"{path}: trained with {key} {theirs}, the config says {ours}; use the config that it was trained with"
            )
    return _build(config, content, path)


def load_classifier_for(config: ClassificationConfig, path: Path) -> tuple[Classifier, tuple[str, ...]]:
    """Build the classifier of ``config`` with the weights of a file, in evaluation mode.

    Returns:
        the model, and the classes that it was trained on.

    Raises:
        CheckpointError: the file was trained as another model, or on other classes than the config names.
    """
    content = read_weights(path)
    trained = saved_any_config(content, path)
    if not isinstance(trained, ClassificationConfig):
        raise CheckpointError(
            f"{path}: expected weights of a classifier, got a pose model's; test it with tools/test.py"
        )
    classes = trained.data.classes
    if classes is None:
        raise CheckpointError(f"{path}: its config does not name the classes (data.classes) as a training run's does")
    if config.data.classes not in (None, classes):
        raise CheckpointError(
            f"{path}: trained on other classes than data.classes names, or in another order; leave data.classes out to "
            "take those of the weights"
        )
    model = build_classifier(config.model_copy(update={"data": trained.data}))
    load_strict(model, inference_state(content), path)
    return model.eval(), classes


def load_pose_net(path: str | Path) -> tuple[PoseNet, Config]:
    """Build the model that a weight file was trained as, with its weights, in evaluation mode.

    Raises:
        CheckpointError: see `read_weights`, `saved_config` and `load_strict`.
    """
    path = Path(path)
    content = read_weights(path)
    config = saved_config(content, path)
    return _build(config, content, path), config


def _build(config: Config, content: Mapping[str, Any], path: Path) -> PoseNet:
    model = build_pose_net(config)
    load_strict(model, inference_state(content), path)
    return model.eval()
