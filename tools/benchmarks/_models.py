"""Models and inputs that several suites time."""

import copy
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from pose.config.pose import Config, ModelConfig
from pose.engine.state import to_channels_last
from pose.models import build_pose_net
from pose.models.pose_net import PoseNet

Module = TypeVar("Module", bound=nn.Module)

SIZE_HW = (256, 192)
LAST = " in channels_last"


def build_model(width: float, dynamic: bool, size_hw: tuple[int, int]) -> PoseNet:
    """Return a MobileNetV2 with a type-B head whose activations are of the size that a trained one's are.

    The batch norms of a new model pass activations on that fade to 1e-20; much smaller, and the processor takes many
    times longer for each.
    """
    net = build_pose_net(Config(model=ModelConfig(width=width, dynamic_backbone=dynamic, dynamic_head=dynamic)))
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0  # takes the statistics of the one batch that comes now
    with torch.no_grad():
        net.train()(noise(4, 3, size_hw))
    return net.eval()


def noise(batch: int, channels: int, size_hw: tuple[int, int]) -> torch.Tensor:
    """Draw an input (batch, channels, h, w), the same each time."""
    return torch.randn((batch, channels, *size_hw), generator=torch.Generator().manual_seed(0))


def in_both_layouts(
    name: str, module: nn.Module, x: torch.Tensor, use: Callable[[nn.Module, torch.Tensor], object]
) -> dict[str, Callable[[], object]]:
    """Return what uses a module on an input, by ``name``, and the same in channels_last, which has its own copy."""
    last = copy.deepcopy(module)  # modules keep their parameters in one layout
    to_channels_last(last)
    return {
        name: partial(use, module, x),
        name + LAST: partial(use, last, x.to(memory_format=torch.channels_last)),
    }


def infer(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Call a module as it is called to predict."""
    with torch.inference_mode():
        y: torch.Tensor = module(x)
    return y


def train(module: nn.Module, x: torch.Tensor) -> None:
    """Call a module forward and backward; gradients do not pile up."""
    module.zero_grad(set_to_none=True)
    x = x.detach().requires_grad_()
    y = module(x)
    y.backward(torch.ones_like(y))
