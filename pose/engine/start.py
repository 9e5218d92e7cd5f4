"""Trained weights to begin a run with: ours, torchvision's or MoveNet's; static ones inflate into a dynamic net."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from pose.config import BackboneConfig
from pose.foreign_weights import from_movenet, from_torchvision
from pose.inference import normalize
from pose.models import build_backbone
from pose.models.classifier import Classifier
from pose.models.inflate import inflate
from pose.models.networks import PoseNet
from pose.weights import inference_state, load_strict, read_state_dict, read_weights, saved_task

logger = logging.getLogger(__name__)

CALIBRATION_SAMPLES = 256


class Sample(Protocol):
    """What a training data set gives."""

    @property
    def image(self) -> Tensor:
        """(h, w, 3) uint8 RGB."""


class Samples(Protocol):
    """A training data set of any task, indexed by (epoch, row)."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> Sample: ...


def start_training(net: PoseNet | Classifier, path: Path, model: BackboneConfig, samples: Samples) -> None:
    """Load what a file of trained weights has for ``net``, and make its backbone ready to train.

    Args:
        net: to change.
        path: as for `load_start`.
        model: the net's.
        samples: that it will train on, for batch norm without statistics.

    Raises:
        CheckpointError: as `load_start`.
    """
    static = model.model_copy(update={"dynamic_backbone": False, "dynamic_last": False})
    with torch.device("meta"):  # only names and shapes are wanted
        static_backbone = build_backbone(static, temperature=1.0)
    if load_start(net, path, static_backbone):
        rows = range(min(CALIBRATION_SAMPLES, len(samples)))
        crops = torch.stack([samples[0, row].image for row in rows])
        # A new head's batch norm must keep bringing its signals to scale, where it would be made to leave them be.
        calibrate_batch_norm(net.backbone, normalize(crops))


def load_start(net: PoseNet | Classifier, path: Path, static_backbone: nn.Module) -> bool:
    """Load what a file of trained weights has for ``net``; the rest stays as it was drawn.

    A backbone must fit wholly. A head is taken if it fits, or fits but for the last layer (other keypoints or classes);
    that of a classifier never fits a pose net, nor the other way round.

    Args:
        net: to change.
        path: a weight file or run folder of ours, torchvision's state dict (``.pth``), or MoveNet (``.onnx``).
        static_backbone: the static form of the net's backbone, which tells torchvision's names.

    Returns:
        whether the backbone's batch norm came without statistics and wants `calibrate_batch_norm`.

    Raises:
        CheckpointError: the file cannot be read, or its backbone is another.
    """
    if path.suffix == ".onnx":
        _load_backbone(net, from_movenet(path), path)
        return True
    if path.suffix == ".pth":
        _load_backbone(net, from_torchvision(read_state_dict(path), static_backbone, path), path)
        return False
    content = read_weights(path)
    state = inference_state(content)
    _load_backbone(net, _part(state, "backbone."), path)
    task = saved_task(content)
    if (task == "classification") == isinstance(net, Classifier):
        _load_head(net.head, _part(state, "head."), path, "classes" if isinstance(net, Classifier) else "keypoints")
    else:
        logger.info("the head starts anew: %s is of a net for %s", path, task)
    return False


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _load_backbone(net: PoseNet | Classifier, state: Mapping[str, Tensor], path: Path) -> None:
    ours = _temperatures(net.backbone.state_dict())
    load_strict(net.backbone, inflate(state, net.backbone), path)
    logger.info("the backbone starts from %s", path)
    for theirs in _temperatures(state) - ours:
        logger.warning(
            "its attention was trained at temperature %g; train.temperature=%g begins with the same features",
            theirs, theirs,
        )  # fmt: skip


def _temperatures(state: Mapping[str, Tensor]) -> set[float]:
    return {value.item() for name, value in state.items() if name.endswith("attention.temperature")}


def _load_head(head: nn.Module, state: Mapping[str, Tensor], path: Path, outputs: str) -> None:
    own, state = head.state_dict(), inflate(state, head)
    differ = {name for name in own.keys() | state.keys() if name not in own or name not in state}
    differ |= {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape}
    last = set(list(own)[-2:])  # weight and bias of the layer to the keypoints' maps or classes' scores
    if differ <= last:
        head.load_state_dict({**state, **{name: own[name] for name in differ}})
        logger.info("the head starts from %s%s", path, f", its last layer anew: other {outputs}" if differ else "")
    else:
        logger.warning("the head starts anew: %s holds another one", path)


@torch.no_grad()
def calibrate_batch_norm(net: nn.Module, inputs: Tensor) -> None:
    """Give every batch norm the statistics of ``inputs``, and scale and shift that leave the net's outputs as they are.

    A net with batch norm folded into its convolutions, whose running statistics are made up, would be another net when
    it trains on batch statistics. Afterwards both agree.

    Args:
        net: in evaluation mode its outputs do not change, beyond rounding.
        inputs: (B, 3, H, W) normalised; enough persons that their statistics are typical.
    """

    def adopt(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        variance, mean = torch.var_mean(arguments[0], dim=(0, 2, 3), correction=0)
        scale = layer.weight / torch.sqrt(layer.running_var + layer.eps)
        layer.bias.add_(scale * (mean - layer.running_mean))
        layer.weight.copy_(scale * torch.sqrt(variance + layer.eps))
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)

    hooks = [layer.register_forward_pre_hook(adopt) for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    was_training = net.training
    try:
        net.eval()(inputs)
    finally:
        net.train(was_training)
        for hook in hooks:
            hook.remove()
