"""Initialize weights before training: load pretrained weights (ours, torchvision's, MoveNet's), inflate, calibrate."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pose.config.pose import BackboneConfig, Config
from pose.engine.calibration import SAMPLES, calibrate_attention, calibrate_batch_norm
from pose.inference.pytorch import normalize
from pose.models import build_backbone
from pose.models.classifier import Classifier
from pose.models.inflate import inflate, new_layers
from pose.models.kernel_attention import KernelAttention
from pose.models.pose_net import PoseNet
from pose.models.pretrained import from_movenet, from_torchvision
from pose.models.weights import (
    inference_state,
    load_strict,
    read_state_dict,
    read_weights,
    saved_any_config,
    saved_task,
)
from pose.packaged import weights_path
from pose.skeleton import canonical_names

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Uncalibrated:
    """Parts of a model that need calibration on data before training (`pose.engine.calibration`).

    Attributes:
        batch_norm: whether the backbone's batch norm was loaded without statistics.
        attentions: attentions of the inflated layers.
    """

    batch_norm: bool
    attentions: list[KernelAttention]


def initialize_weights(
    model: PoseNet | Classifier,
    start: Path | str,
    options: BackboneConfig,
    dataset: Any,
    keypoints: Sequence[str] | None = None,
) -> None:
    """Load pretrained weights into a new model and calibrate it for training.

    Args:
        model: on the CPU; changed in place.
        start: see `load_pretrained`, or ``default``, the packaged model.
        options: config of the model.
        dataset: the training set, indexed by (epoch, row); calibration uses its first `SAMPLES` images.
        keypoints: see `load_pretrained`.

    Raises:
        CheckpointError: see `load_pretrained`.
    """
    static = options.model_copy(update={"dynamic_backbone": False, "dynamic_last": False, "dynamic_shortcuts": False})
    with torch.device("meta"):  # only names and shapes are needed
        static_backbone = build_backbone(static, temperature=1.0)
    uncalibrated = load_pretrained(model, weights_path(start), static_backbone, keypoints)
    if uncalibrated.batch_norm or uncalibrated.attentions:
        images = normalize(torch.stack([dataset[0, row].image for row in range(min(SAMPLES, len(dataset)))]))
    if uncalibrated.batch_norm:
        # Not the head: the batch norm of a newly initialized head must normalize its inputs, not preserve outputs.
        calibrate_batch_norm(model.backbone, images)
    if uncalibrated.attentions and len(images) > 1:
        calibrate_attention(model, uncalibrated.attentions, images)


def load_pretrained(
    model: PoseNet | Classifier, path: Path, static_backbone: nn.Module, keypoints: Sequence[str] | None = None
) -> Uncalibrated:
    """Load pretrained weights into a model; layers without matching weights keep their initialization.

    The backbone must match completely. A head is loaded if it matches, or all but its last layer (other keypoints or
    classes). Of a pose model's last layer, the rows of the keypoints with equal names are loaded. The head of a
    classifier is never loaded into a pose model, nor the reverse.

    Args:
        model: changed in place.
        path: our weight file or run folder, torchvision's state dict (``.pth``), or MoveNet (``.onnx``).
        static_backbone: static form of the model's backbone, to map torchvision's names.
        keypoints: names of a pose model's K outputs; None: the same as in the file if their number is.

    Raises:
        CheckpointError: the file cannot be read, or has another backbone.
    """
    if path.suffix == ".onnx":
        return Uncalibrated(True, _load_backbone(model, from_movenet(path), path))
    if path.suffix == ".pth":
        state = from_torchvision(read_state_dict(path), static_backbone, path)
        return Uncalibrated(False, _load_backbone(model, state, path))
    content = read_weights(path)
    state = dict(inference_state(content))
    attentions = _load_backbone(model, _select(state, "backbone."), path)
    task = saved_task(content)
    if (task == "classification") == isinstance(model, Classifier):
        saved = saved_any_config(content, path)
        same = None
        if keypoints is not None and isinstance(saved, Config):
            same = _equal_names(keypoints, saved.keypoints.names)
        outputs = "classes" if isinstance(model, Classifier) else "keypoints"
        attentions += _load_head(model.head, _select(state, "head."), path, outputs, same)
    else:
        logger.info("the head keeps its random initialization: %s is of a %s model", path, task)
    return Uncalibrated(False, attentions)


def _select(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _load_backbone(model: PoseNet | Classifier, state: Mapping[str, Tensor], path: Path) -> list[KernelAttention]:
    """Load a backbone; inflate static weights into dynamic layers, and return the attentions of these layers."""
    own_temperatures = _temperatures(model.backbone.state_dict())
    load_strict(model.backbone, inflate(state, model.backbone), path)
    logger.info("backbone: weights loaded from %s", path)
    for temperature in _temperatures(state) - own_temperatures:
        logger.warning(
            "its attention was trained at temperature %g; train.temperature=%g keeps its features",
            temperature, temperature,
        )  # fmt: skip
    return [layer.attention for layer in new_layers(state, model.backbone).values()]


def _temperatures(state: Mapping[str, Tensor]) -> set[float]:
    return {value.item() for name, value in state.items() if name.endswith("attention.temperature")}


def _equal_names(names: Sequence[str], saved: Sequence[str]) -> dict[int, int]:
    """Map the index of each name to that of the equal saved name, also in another spelling (`canonical_names`)."""
    index_of = {name: index for index, name in enumerate(canonical_names(saved))}
    return {row: index_of[name] for row, name in enumerate(canonical_names(names)) if name in index_of}


def _load_head(
    head: nn.Module, state: Mapping[str, Tensor], path: Path, outputs: str, same: Mapping[int, int] | None
) -> list[KernelAttention]:
    """Load a head if all layers but the last match; return the attentions of its inflated layers.

    ``same`` maps rows of the last layer to the rows of the file that are loaded into them; None: all rows, if their
    number is equal. A dynamic last layer of other outputs keeps its random initialization.
    """
    inflated = new_layers(state, head)
    own, state = head.state_dict(), inflate(state, head)
    different = {name for name in own.keys() | state.keys() if name not in own or name not in state}
    different |= {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape}
    last_layer = re.sub(r"(attention\.fc2\.)?\w+$", "", list(own)[-1])  # prefix of its weight, bias and attention
    if not all(name.startswith(last_layer) for name in different):
        logger.warning("the head keeps its random initialization: %s has another head", path)
        return []
    last = {name: value for name, value in own.items() if name.startswith(last_layer)}
    rows = last[f"{last_layer}bias"].shape[-1]
    if same is None:
        same = {} if different else {row: row for row in range(rows)}
    if different or same != {row: row for row in range(rows)}:
        if set(last) != {f"{last_layer}weight", f"{last_layer}bias"} or last[f"{last_layer}bias"].dim() > 1:
            same = {}  # dynamic: its kernels and their attention belong together
        merged = {name: _with_rows(value, state.get(name), same) for name, value in last.items()}
        state = {name: value for name, value in state.items() if not name.startswith(last_layer)} | merged
        if not same:
            inflated.pop(last_layer, None)
    head.load_state_dict(state)
    suffix = ""
    if len(same) < rows:
        kept = f"{rows - len(same)} of {rows} rows of the last layer" if same else "the last layer"
        suffix = f", except {kept} (other {outputs})"
    logger.info("head: weights loaded from %s%s", path, suffix)
    return [layer.attention for layer in inflated.values()]


def _with_rows(own: Tensor, saved: Tensor | None, same: Mapping[int, int]) -> Tensor:
    """Return a copy of a last layer's weight or bias with the rows of ``same`` (own to saved) taken from another."""
    merged = own.clone()
    if saved is not None and same:
        merged[list(same)] = saved[list(same.values())].to(own.dtype)
    return merged
