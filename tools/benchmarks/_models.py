"""Models and inputs shared by several suites."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from pose.config.classification import ClassificationConfig, ClassifierConfig
from pose.config.pose import Config, ModelConfig
from pose.models import build_classifier, build_pose_net
from pose.models.classifier import Classifier
from pose.models.pose_net import PoseNet

Module = TypeVar("Module", bound=nn.Module)

SIZE_HW = (256, 192)
"""Height and width of the model input in pixels."""
CHANNELS_LAST = " in channels_last"
"""Suffix of the names of calls in this memory layout."""


def build_model(width: float, dynamic: bool, size_hw: tuple[int, int], **options: Any) -> PoseNet:
    """Return a MobileNetV2 with a type-B head whose activations have the magnitude of a trained model's.

    In a newly initialized model, activations decay to 1e-20 from layer to layer. Denormal numbers, which are smaller
    still, take the processor many times longer. ``options`` are further ones of `ModelConfig`.
    """
    model = ModelConfig(**{"width": width, "dynamic_backbone": dynamic, "dynamic_head": dynamic, **options})
    return with_statistics(build_pose_net(Config(model=model)), size_hw)


def build_imagenet_classifier(width: float, dynamic: bool, size_hw: tuple[int, int]) -> Classifier:
    """Return a MobileNetV2 classifier of 1,000 classes; activations as in `build_model`."""
    options = ClassifierConfig(width=width, dynamic_backbone=dynamic)
    return with_statistics(build_classifier(ClassificationConfig(model=options)), size_hw)


def with_statistics(model: Module, size_hw: tuple[int, int]) -> Module:
    """Set the batch norm statistics of ``model`` to those of random inputs; returns it in evaluation mode."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0  # the next batch replaces the running statistics
    with torch.no_grad():
        model.train()(noise(4, 3, size_hw))
    return model.eval()


def noise(batch: int, channels: int, size_hw: tuple[int, int]) -> torch.Tensor:
    """Return a random input (batch, channels, h, w), the same for each call."""
    return torch.randn((batch, channels, *size_hw), generator=torch.Generator().manual_seed(0))


def in_both_layouts(
    name: str, module: nn.Module, x: torch.Tensor, step: Callable[[nn.Module, torch.Tensor], object]
) -> dict[str, Callable[[], object]]:
    """Return calls of ``step(module, x)`` by name, in contiguous layout and in channels_last.

    Args:
        name: of the call in contiguous layout; the other one has the suffix `CHANNELS_LAST`.
        module: to run; a copy of it runs in channels_last.
        x: (N, C, h, w) input.
        step: `infer` or `training_step`.
    """
    channels_last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    return {
        name: partial(step, module, x),
        name + CHANNELS_LAST: partial(step, channels_last, x.to(memory_format=torch.channels_last)),
    }


def infer(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run a forward pass in inference mode."""
    with torch.inference_mode():
        y: torch.Tensor = module(x)
    return y


def training_step(module: nn.Module, x: torch.Tensor) -> None:
    """Run a forward and a backward pass; gradients do not accumulate."""
    module.zero_grad(set_to_none=True)
    x = x.detach().requires_grad_()
    y = module(x)
    y.backward(torch.ones_like(y))
