"""Trained weights to begin a run with: ours, torchvision's or MoveNet's; static ones inflate into a dynamic net."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from pose.foreign_weights import from_movenet, from_torchvision
from pose.models.dynamic_conv import KernelAttention
from pose.models.inflate import inflate, new_layers
from pose.models.networks import PoseNet
from pose.weights import inference_state, load_strict, read_state_dict, read_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Uncalibrated:
    """What of a net that has been given weights wants to see data before it trains (`pose.engine.calibrate`)."""

    batch_norm: bool
    """The backbone's batch norm came without statistics."""
    attentions: list[KernelAttention]
    """Of the inflated layers."""


def load_start(net: PoseNet, path: Path, static_backbone: nn.Module) -> Uncalibrated:
    """Load what a file of trained weights has for ``net``; the rest stays as it was drawn.

    A backbone must fit wholly. A head is taken if it fits, or fits but for the last layer (another keypoint set).

    Args:
        net: to change.
        path: a weight file or run folder of ours, torchvision's state dict (``.pth``), or MoveNet (``.onnx``).
        static_backbone: the static form of the net's backbone, which tells torchvision's names.

    Raises:
        CheckpointError: the file cannot be read, or its backbone is another.
    """
    if path.suffix == ".onnx":
        return Uncalibrated(True, _load_backbone(net, from_movenet(path), path))
    if path.suffix == ".pth":
        theirs = from_torchvision(read_state_dict(path), static_backbone, path)
        return Uncalibrated(False, _load_backbone(net, theirs, path))
    state = inference_state(read_weights(path))
    attentions = _load_backbone(net, _part(state, "backbone."), path)
    return Uncalibrated(False, attentions + _load_head(net.head, _part(state, "head."), path))


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _load_backbone(net: PoseNet, state: Mapping[str, Tensor], path: Path) -> list[KernelAttention]:
    load_strict(net.backbone, inflate(state, net.backbone), path)
    logger.info("the backbone starts from %s", path)
    return [layer.attention for layer in new_layers(state, net.backbone).values()]


def _load_head(head: nn.Module, state: Mapping[str, Tensor], path: Path) -> list[KernelAttention]:
    inflated = [layer.attention for layer in new_layers(state, head).values()]
    own, state = head.state_dict(), inflate(state, head)
    differ = {name for name in own.keys() | state.keys() if name not in own or name not in state}
    differ |= {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape}
    last = set(list(own)[-2:])  # weight and bias of the 1x1 convolution to the keypoints' maps
    if differ <= last:
        head.load_state_dict({**state, **{name: own[name] for name in differ}})
        logger.info("the head starts from %s%s", path, ", its last layer anew: other keypoints" if differ else "")
        return inflated
    logger.warning("the head starts anew: %s holds another one", path)
    return []
