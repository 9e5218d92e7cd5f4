"""Weight files: written atomically, read without executing code, loaded with strict names, shapes and types.

A weight file is a dict saved by `torch.save` with at least ``model`` (a state dict) and ``config`` (the resolved config
as plain values). A training checkpoint (`pose.engine.checkpoint`) is a weight file with more keys.
"""

import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import nn
from torch.overrides import TorchFunctionMode

from pose.config.classification import ClassificationConfig
from pose.config.loader import CONFIGS, AnyConfig
from pose.config.pose import Config
from pose.config.skeleton import reads_annotations
from pose.errors import CheckpointError
from pose.files import newest_below, replacing, writing
from pose.models import build_classifier, build_pose_net
from pose.models.classifier import Classifier
from pose.models.pose_net import PoseNet
from pose.models.torch_file import check_weights, load_torch_file
from pose.packaged import PACKAGED_WEIGHTS, weights_path

Model = TypeVar("Model", bound=nn.Module)

DEFAULT_WEIGHTS = PACKAGED_WEIGHTS["default"]
"""The packaged model that `PosePredictor` loads by default."""


def write_weights(content: Mapping[str, Any], path: Path) -> None:
    """Write a weight file atomically: after an interruption ``path`` has either the old or the new content.

    Raises:
        MediaError: the file cannot be written.
    """
    buffer = io.BytesIO()  # torch reports a full disk with errors of its own, Python's file with an OSError
    torch.save(dict(content), buffer)
    with replacing(path) as temporary, writing(path):
        temporary.write_bytes(buffer.getbuffer())


def read_weights(path: Path) -> dict[str, Any]:
    """Load the content of a weight file to the CPU.

    Args:
        path: a weight file, or a run folder: its newest ``best.pt``, else its newest ``last.pt``.

    Raises:
        CheckpointError: the file is missing or damaged, or is no weight file of this project.
    """
    file = find_weights(path) if path.is_dir() else path
    content = load_torch_file(file)
    if not isinstance(content, dict) or not {"model", "config"} <= content.keys():
        raise CheckpointError(f"{file}: expected a dict with 'model' and 'config' as `dyconv-pose train` writes it")
    config = content["config"]
    task = config.get("task") if isinstance(config, dict) else None
    if task not in tuple(CONFIGS):  # compares values of any type, unhashable ones too
        raise CheckpointError(
            f"{file}: expected a 'config' with task {' or '.join(map(repr, CONFIGS))}, got {task!r}; "
            "give a file that `dyconv-pose train` or `dyconv-pose train-imagenet` wrote"
        )
    check_weights(content["model"], file)
    if content.get("ema") is not None:
        check_weights(content["ema"], file)
    return content


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Load a file with only a state dict, such as torchvision's weight files.

    Raises:
        CheckpointError: the file is missing or damaged, or has other content.
    """
    return check_weights(load_torch_file(path), path)


def find_weights(folder: Path) -> Path:
    """Return the newest ``best.pt`` below a folder, or else the newest ``last.pt``.

    Raises:
        CheckpointError: there is neither.
    """
    for name in ("best.pt", "last.pt"):
        newest = newest_below(folder, name)
        if newest is not None:
            return newest
    raise CheckpointError(f"{folder}: neither best.pt nor last.pt below this folder; give the folder of a training run")


def saved_task(content: Mapping[str, Any]) -> str:
    """Return the task of a weight file's model, ``pose`` or ``classification``."""
    task: str = content["config"]["task"]
    return task


def saved_any_config(content: Mapping[str, Any], path: Path) -> AnyConfig:
    """Return the training config in a weight file, of any task.

    Args:
        content: of a weight file, see `read_weights`.
        path: of this file, for error messages.

    Raises:
        CheckpointError: the config does not fit the options of this version.
    """
    try:
        return CONFIGS[saved_task(content)].model_validate(content["config"])
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{path}: its config does not fit this version: {option}: {first['msg']}") from None


def saved_config(content: Mapping[str, Any], path: Path) -> Config:
    """Return the training config in the weight file of a pose model.

    Args:
        content: of a weight file, see `read_weights`.
        path: of this file, for error messages.

    Raises:
        CheckpointError: the file is a classifier's, or the config does not fit the options of this version.
    """
    config = saved_any_config(content, path)
    if not isinstance(config, Config):
        raise CheckpointError(
            f"{path}: expected weights of a pose model, got a classifier's; test it with `dyconv-pose test-imagenet`, "
            "or initialize a pose model from it with train.start"
        )
    return config


def load_strict(model: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load a state dict into a model; all names and shapes must be equal.

    Args:
        model: changed in place, or not at all if there is a difference. A model on the meta device gets the tensors of
            ``state``, in its own types.
        state: state dict to load, see `check_weights`.
        path: file of ``state``, for error messages.

    Raises:
        CheckpointError: names or shapes differ; the message has the first three differences and their number.
    """
    expected = model.state_dict()
    differences = [f"missing '{name}'" for name in expected if name not in state]
    differences += [f"unexpected '{name}'" for name in state if name not in expected]
    differences += [
        f"'{name}' has shape {list(state[name].shape)}, expected {list(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    if differences:
        raise CheckpointError(
            f"{path}: made for another model: {'; '.join(differences[:3])} ({len(differences)} differences); "
            "use the config that it was trained with"
        )
    if any(value.is_meta for value in expected.values()):
        own_types = {name: value.to(expected[name].dtype).contiguous() for name, value in state.items()}
        model.load_state_dict(own_types, assign=True)
    else:
        model.load_state_dict(dict(state))


def inference_state(content: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
    """Return the weights for inference: the exponential moving average if the file has one."""
    state: Mapping[str, torch.Tensor] = content["ema"] if content.get("ema") is not None else content["model"]
    return state


def take_keypoints(config: Config, path: Path) -> Config:
    """Return the config with the keypoint set of a weight file, if the config leaves it to the annotations.

    Raises:
        CheckpointError: see `read_weights` and `saved_config`.
    """
    if not reads_annotations(config.skeleton):
        return config
    return config.model_copy(update={"skeleton": saved_config(read_weights(path), path).skeleton})


def load_weights_for(config: Config, path: Path) -> PoseNet:
    """Build the pose model of ``config`` with the weights of a file, in evaluation mode.

    Args:
        config: may differ from the training config in everything but the model, ``train.loss``, ``input.sigma`` and the
            names and flip pairs of the keypoints.
        path: a weight file or run folder, see `read_weights`.

    Raises:
        CheckpointError: the file cannot be read, is of another model, or was trained with another loss, sigma or
            keypoint set.
    """
    content = read_weights(path)
    trained = saved_config(content, path)
    for key, configured, saved in (
        ("train.loss", config.train.loss, trained.train.loss),
        ("input.sigma", config.input.sigma, trained.input.sigma),
        ("the keypoints", list(config.keypoints.names), list(trained.keypoints.names)),
        ("the flip pairs", config.keypoints.paired_names, trained.keypoints.paired_names),
    ):
        if configured != saved:
            raise CheckpointError(
                f"{path}: trained with {key} {saved}, the config says {configured}; "
                "use the config that it was trained with"
            )
    return _build(config, content, path)


def load_classifier_for(config: ClassificationConfig, path: Path) -> tuple[Classifier, tuple[str, ...]]:
    """Build the classifier of ``config`` with the weights of a file, in evaluation mode.

    Args:
        config: may leave ``data.classes`` out.
        path: a weight file or run folder, see `read_weights`.

    Returns:
        the model, and its classes in the order of the scores.

    Raises:
        CheckpointError: the file cannot be read, is of another model, or was trained on other classes.
    """
    content = read_weights(path)
    trained = saved_any_config(content, path)
    if not isinstance(trained, ClassificationConfig):
        raise CheckpointError(
            f"{path}: expected weights of a classifier, got a pose model's; test it with `dyconv-pose test`"
        )
    classes = trained.data.classes
    if classes is None:
        raise CheckpointError(
            f"{path}: its config does not name the classes (data.classes); give a file of a training run"
        )
    if config.data.classes not in (None, classes):
        raise CheckpointError(
            f"{path}: trained on other classes than data.classes names, or in another order; leave data.classes out to "
            "take those of the weights"
        )
    model = _load(partial(build_classifier, config.model_copy(update={"data": trained.data})), content, path)
    return model, classes


def load_pose_net(path: str | Path) -> tuple[PoseNet, Config]:
    """Build the pose model of a weight file from its own config, in evaluation mode; return both.

    Args:
        path: the name of a packaged model, such as ``default``, or a weight file or run folder, see `read_weights`.

    Raises:
        CheckpointError: see `read_weights`, `saved_config` and `load_strict`.
    """
    path = weights_path(path)
    content = read_weights(path)
    config = saved_config(content, path)
    return _build(config, content, path), config


def _build(config: Config, content: Mapping[str, Any], path: Path) -> PoseNet:
    return _load(partial(build_pose_net, config), content, path)


def _load(build: Callable[[], Model], content: Mapping[str, Any], path: Path) -> Model:
    """Build a model and load its weights; the names and shapes are compared before any memory is allocated for it."""
    try:
        with torch.device("meta"), _WithoutInitialization():
            model = build()
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: no model can be built from its config ({type(error).__name__})") from None
    load_strict(model, inference_state(content), path)
    return model.eval()


class _WithoutInitialization(TorchFunctionMode):
    """Context in which random initialization does nothing; on the meta device it would import half of PyTorch."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "").endswith(("normal_", "uniform_")):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
