"""Average the weights of several runs (model soup), and export small weight files for inference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pose.config.classification import ClassFoldersConfig
from pose.config.data import DataConfig
from pose.config.loader import AnyConfig
from pose.config.pose import Config
from pose.errors import CheckpointError
from pose.models.factory import build_pose_net
from pose.models.inflate import inflate
from pose.models.weights import inference_state, read_weights, saved_any_config

DYNAMIC_OPTIONS = (
    "dynamic_backbone", "first_dynamic_block", "dynamic_last", "dynamic_shortcuts", "dynamic_head", "num_kernels",
    "reduction",
)  # fmt: skip
"""Options in which a dynamic pose model with softmax attention differs from its static form."""


def average_weights(paths: Sequence[Path]) -> dict[str, Any]:
    """Return the mean of the inference weights of several files, with the config of the first.

    The mean of runs that were fine-tuned from the same weights is often better than each of them (Wortsman et al.,
    *Model soups*, ICML 2022). The weights of a single file are returned unchanged. If the first file is of a dynamic
    pose model with softmax attention, static ones are inflated with its attention: each of its kernels is averaged with
    the static one.

    Args:
        paths: at least one weight file or run folder, see `read_weights`.

    Raises:
        CheckpointError: a file cannot be read, or the files differ in model, skeleton, sigma and loss, or in classes.
    """
    contents = [read_weights(path) for path in paths]
    configs = [saved_any_config(content, path) for content, path in zip(contents, paths, strict=True)]
    states = [inference_state(content) for content in contents]
    for index in range(1, len(paths)):
        configs[index], states[index] = _inflated(configs[index], states[index], configs[0], states[0])
    for config, state, path in zip(configs[1:], states[1:], paths[1:], strict=True):
        if _signature(config) != _signature(configs[0]) or _shapes(state) != _shapes(states[0]):
            raise CheckpointError(
                f"{path}: trained as another model than {paths[0]}, or with another skeleton, sigma, loss or other "
                "classes; average runs of one model only"
            )
    mean = {
        name: sum(state[name].float() / len(states) for state in states)
        for name, value in states[0].items()
        if value.is_floating_point()
    }
    return {"model": {**states[0], **mean}, "config": contents[0]["config"]}


def _inflated(
    config: AnyConfig, state: Mapping[str, torch.Tensor], first: AnyConfig, first_state: Mapping[str, torch.Tensor]
) -> tuple[AnyConfig, Mapping[str, torch.Tensor]]:
    """Return a static pose model as the dynamic model ``first``, with its attention; other models unchanged."""
    if not isinstance(config, Config) or not isinstance(first, Config):
        return config, state
    if config.model.is_dynamic or not first.model.is_dynamic or first.model.attention != "softmax":
        return config, state
    options = {name: getattr(first.model, name) for name in DYNAMIC_OPTIONS}
    model = build_pose_net(first)
    model.load_state_dict(first_state)
    inflated = inflate(state, model)
    return config.model_copy(update={"model": config.model.model_copy(update=options)}), inflated


def _signature(config: AnyConfig) -> tuple[object, ...]:
    """Return the options that must be equal in two runs for their weights to have the same meaning."""
    if isinstance(config, Config):
        return config.model, config.keypoints, config.input.sigma, config.train.loss
    return config.model, config.data.classes


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def export_weights(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the part of a weight file that inference needs: weights in half precision, and the config without paths.

    One-dimensional tensors (biases, batch norm) stay in float32: they are small, and a variance may exceed the range of
    half precision. The data section, ``train.start`` and ``train.teacher`` of the config are reset, as they name paths
    of the training machine; the classes of a classifier are kept.

    Args:
        content: of a weight file, see `read_weights`.
        path: of this file, for error messages.

    Raises:
        CheckpointError: the config does not fit this version.
    """
    config = saved_any_config(content, path)
    data = DataConfig() if isinstance(config, Config) else ClassFoldersConfig(classes=config.data.classes)
    train: dict[str, None] = {name: None for name in ("start", "teacher") if hasattr(config.train, name)}
    config = config.model_copy(update={"data": data, "train": config.train.model_copy(update=train)})
    state = {
        name: value.half() if value.is_floating_point() and value.dim() > 1 else value
        for name, value in inference_state(content).items()
    }
    return {"model": state, "config": config.model_dump(mode="json")}
