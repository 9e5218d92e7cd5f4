"""Small weight files of trained models: what predicting needs of one run, or of the mean of several."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pose.config.classification import ClassFoldersConfig
from pose.config.loader import AnyConfig
from pose.config.pose import Config, DataConfig
from pose.errors import CheckpointError
from pose.models.weights import inference_state, read_weights, saved_any_config


def average_weights(paths: Sequence[Path]) -> dict[str, Any]:
    """Return the mean of files' weights, each those to predict with, under the config of the first.

    Runs that went on from the same weights often lie around a better model than each of them is (Wortsman et al., *Model
    soups*, ICML 2022). One file's come back as they are.

    Args:
        paths: at least one, each as for `read_weights`.

    Raises:
        CheckpointError: they are not of the same model, skeleton, sigma and loss, or classes.
    """
    contents = [read_weights(path) for path in paths]
    configs = [saved_any_config(content, path) for content, path in zip(contents, paths, strict=True)]
    states = [inference_state(content) for content in contents]
    for config, state, path in zip(configs[1:], states[1:], paths[1:], strict=True):
        if _what_weights_mean(config) != _what_weights_mean(configs[0]) or _shapes(state) != _shapes(states[0]):
            raise CheckpointError(
                f"{path}: trained as another model than {paths[0]}, or with another skeleton, sigma, loss or other "
                "classes; only runs of one model can be averaged"
            )
    mean = {
        name: sum(state[name].float() / len(states) for state in states)
        for name, value in states[0].items()
        if value.is_floating_point()
    }
    return {"model": {**states[0], **mean}, "config": contents[0]["config"]}


def _what_weights_mean(config: AnyConfig) -> tuple[object, ...]:
    if isinstance(config, Config):
        return config.model, config.skeleton, config.input.sigma, config.train.loss
    return config.model, config.data.classes


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def export_weights(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return what predicting needs of a weight file: the weights, their larger tensors in half precision, the config.

    One-dimensional tensors (biases, batch norm) keep their precision: they weigh next to nothing, and a variance may
    exceed the range of half precision. Paths of the training machine are left out of the config.

    Args:
        content: as `read_weights` returns it.
        path: it was read from, for the message.

    Raises:
        CheckpointError: its config does not fit this version.
    """
    config = saved_any_config(content, path)
    data = DataConfig() if isinstance(config, Config) else ClassFoldersConfig(classes=config.data.classes)
    config = config.model_copy(update={"data": data, "train": config.train.model_copy(update={"start": None})})
    state = {
        name: value.half() if value.is_floating_point() and value.dim() > 1 else value
        for name, value in inference_state(content).items()
    }
    return {"model": state, "config": config.model_dump(mode="json")}
