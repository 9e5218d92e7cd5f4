"""Trained weights to begin a run with: ours, torchvision's or MoveNet's; static ones inflate into a dynamic net."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pose.foreign_weights import from_movenet, from_torchvision
from pose.models.inflate import inflate
from pose.models.networks import PoseNet
from pose.weights import inference_state, load_strict, read_state_dict, read_weights

logger = logging.getLogger(__name__)

CALIBRATION_PERSONS = 256


def load_start(net: PoseNet, path: Path, static_backbone: nn.Module) -> bool:
    """Load what a file of trained weights has for ``net``; the rest stays as it was drawn.

    A backbone must fit wholly. A head is taken if it fits, or fits but for the last layer (another keypoint set).

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
    state = inference_state(read_weights(path))
    _load_backbone(net, _part(state, "backbone."), path)
    _load_head(net.head, _part(state, "head."), path)
    return False


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _load_backbone(net: PoseNet, state: Mapping[str, Tensor], path: Path) -> None:
    load_strict(net.backbone, inflate(state, net.backbone), path)
    logger.info("the backbone starts from %s", path)


def _load_head(head: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    own, state = head.state_dict(), inflate(state, head)
    differ = {name for name in own.keys() | state.keys() if name not in own or name not in state}
    differ |= {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape}
    last = set(list(own)[-2:])  # weight and bias of the 1x1 convolution to the keypoints' maps
    if differ <= last:
        head.load_state_dict({**state, **{name: own[name] for name in differ}})
        logger.info("the head starts from %s%s", path, ", its last layer anew: other keypoints" if differ else "")
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
