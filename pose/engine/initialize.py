"""Trained weights to begin a run with: ours, torchvision's or MoveNet's; static ones inflate into a dynamic model."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from pose.config.pose import BackboneConfig
from pose.engine.calibration import PERSONS, calibrate_attention, calibrate_batch_norm
from pose.inference.pytorch import normalize
from pose.models import build_backbone
from pose.models.classifier import Classifier
from pose.models.dynamic_conv import KernelAttention
from pose.models.inflate import inflate, new_layers
from pose.models.pose_net import PoseNet
from pose.models.pretrained import from_movenet, from_torchvision
from pose.models.weights import DEFAULT_WEIGHTS, inference_state, load_strict, read_state_dict, read_weights, saved_task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Uncalibrated:
    """What of a model that has been given weights wants to see data before it trains (`pose.engine.calibration`)."""

    batch_norm: bool
    """The backbone's batch norm came without statistics."""
    attentions: list[KernelAttention]
    """Of the inflated layers."""


class Sample(Protocol):
    """What a training data set gives."""

    @property
    def image(self) -> Tensor:
        """(h, w, 3) uint8 RGB."""


class Samples(Protocol):
    """A training data set of any task, indexed by (epoch, row)."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> Sample: ...


def initialize_weights(net: PoseNet | Classifier, start: Path | str, model: BackboneConfig, samples: Samples) -> None:
    """Load what a file of trained weights has for ``model``, and make its backbone ready to train.

    Args:
        net: to change.
        start: as for `load_pretrained`, or ``default``, the packaged model.
        model: the model's.
        samples: that it will train on, of which calibration sees some.

    Raises:
        CheckpointError: as `load_pretrained`.
    """
    static = model.model_copy(update={"dynamic_backbone": False, "dynamic_last": False})
    with torch.device("meta"):  # only names and shapes are wanted
        static_backbone = build_backbone(static, temperature=1.0)
    wanting = load_pretrained(net, DEFAULT_WEIGHTS if start == "default" else Path(start), static_backbone)
    if wanting.batch_norm or wanting.attentions:
        crops = normalize(torch.stack([samples[0, row].image for row in range(min(PERSONS, len(samples)))]))
    if wanting.batch_norm:
        # A new head's batch norm must keep bringing its signals to scale, where it would be made to leave them be.
        calibrate_batch_norm(net.backbone, crops)
    if wanting.attentions and len(crops) > 1:
        calibrate_attention(net, wanting.attentions, crops)


def load_pretrained(net: PoseNet | Classifier, path: Path, static_backbone: nn.Module) -> Uncalibrated:
    """Load what a file of trained weights has for ``model``; the rest stays as it was drawn.

    A backbone must fit wholly. A head is taken if it fits, or fits but for the last layer (other keypoints or classes);
    that of a classifier never fits a pose model, nor the other way round.

    Args:
        net: to change.
        path: a weight file or run folder of ours, torchvision's state dict (``.pth``), or MoveNet (``.onnx``).
        static_backbone: the static form of the model's backbone, which tells torchvision's names.

    Raises:
        CheckpointError: the file cannot be read, or its backbone is another.
    """
    if path.suffix == ".onnx":
        return Uncalibrated(True, _load_backbone(net, from_movenet(path), path))
    if path.suffix == ".pth":
        theirs = from_torchvision(read_state_dict(path), static_backbone, path)
        return Uncalibrated(False, _load_backbone(net, theirs, path))
    content = read_weights(path)
    state = inference_state(content)
    attentions = _load_backbone(net, _part(state, "backbone."), path)
    task = saved_task(content)
    if (task == "classification") == isinstance(net, Classifier):
        outputs = "classes" if isinstance(net, Classifier) else "keypoints"
        attentions += _load_head(net.head, _part(state, "head."), path, outputs)
    else:
        logger.info("the head starts anew: %s is of a model for %s", path, task)
    return Uncalibrated(False, attentions)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _load_backbone(net: PoseNet | Classifier, state: Mapping[str, Tensor], path: Path) -> list[KernelAttention]:
    ours = _temperatures(net.backbone.state_dict())
    load_strict(net.backbone, inflate(state, net.backbone), path)
    logger.info("the backbone starts from %s", path)
    for theirs in _temperatures(state) - ours:
        logger.warning(
            "its attention was trained at temperature %g; train.temperature=%g begins with the same features",
            theirs, theirs,
        )  # fmt: skip
    return [layer.attention for layer in new_layers(state, net.backbone).values()]


def _temperatures(state: Mapping[str, Tensor]) -> set[float]:
    return {value.item() for name, value in state.items() if name.endswith("attention.temperature")}


def _load_head(head: nn.Module, state: Mapping[str, Tensor], path: Path, outputs: str) -> list[KernelAttention]:
    inflated = [layer.attention for layer in new_layers(state, head).values()]
    own, state = head.state_dict(), inflate(state, head)
    differ = {name for name in own.keys() | state.keys() if name not in own or name not in state}
    differ |= {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape}
    last = set(list(own)[-2:])  # weight and bias of the layer to the keypoints' maps or classes' scores
    if differ <= last:
        head.load_state_dict({**state, **{name: own[name] for name in differ}})
        logger.info("the head starts from %s%s", path, f", its last layer anew: other {outputs}" if differ else "")
        return inflated
    logger.warning("the head starts anew: %s holds another one", path)
    return []
