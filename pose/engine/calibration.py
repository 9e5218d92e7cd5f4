"""What a model that starts from another's weights has to learn from data before its first step."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose.models.dynamic_conv import KernelAttention

PERSONS = 128
"""Training persons that calibration looks at."""

Hook = Callable[[Any, tuple[Tensor, ...]], None]


@torch.no_grad()
def calibrate_batch_norm(model: nn.Module, inputs: Tensor) -> None:
    """Give every batch norm the statistics of ``inputs``, and scale and shift that leave the model's outputs as they are.

    A model with batch norm folded into its convolutions, whose running statistics are made up, would be another model when
    it trains on batch statistics. Afterwards both agree.

    Args:
        model: in evaluation mode its outputs do not change, beyond rounding.
        inputs: (B, 3, H, W) normalized; enough persons that their statistics are typical.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    _see(model, inputs, [(layer, _adopt_statistics) for layer in layers])


@torch.no_grad()
def calibrate_attention(model: nn.Module, attentions: Iterable[KernelAttention], inputs: Tensor) -> None:
    """Let new attentions weigh the kernels differently from input to input: their logits over tau get deviation 1.

    As drawn they hardly do (in a trained MobileNetV2 the logits' deviation is .02 to .2, in its type-B head .001), and
    the kernels of an inflated layer part only as far as they are weighed differently.

    Args:
        model: holds the attentions; its outputs do not change as long as the kernels of each layer are equal.
        attentions: to change; inputs are standardized in the first layer, logits in the second.
        inputs: (B, 3, H, W) normalized, of at least two persons.
    """
    layers = list(attentions)
    _see(model, inputs, [(layer, _standardise) for layer in layers])
    for layer in layers:
        if layer.kind == "softmax":
            layer.fc2.weight.mul_(layer.temperature)
            layer.fc2.bias.mul_(layer.temperature)


def _see(model: nn.Module, inputs: Tensor, hooks: Iterable[tuple[nn.Module, Hook]]) -> None:
    """Run the model in evaluation mode; each module's hook is called with what is about to enter it."""
    handles = [module.register_forward_pre_hook(hook) for module, hook in hooks]
    was_training = model.training
    try:
        model.eval()(inputs)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()


def _adopt_statistics(layer: nn.BatchNorm2d, arguments: tuple[Tensor, ...]) -> None:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    variance, mean = torch.var_mean(arguments[0], dim=(0, 2, 3), correction=0)
    scale = layer.weight / torch.sqrt(layer.running_var + layer.eps)
    layer.bias.add_(scale * (mean - layer.running_mean))
    layer.weight.copy_(scale * torch.sqrt(variance + layer.eps))
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)


def _standardise(layer: KernelAttention, arguments: tuple[Tensor, ...]) -> None:
    means = arguments[0].mean((2, 3))
    _standardise_inputs(layer.fc1, means)
    _standardise_outputs(layer.fc2, functional.relu(layer.fc1(means)))


def _standardise_inputs(layer: nn.Linear, inputs: Tensor) -> None:
    variance, mean = torch.var_mean(inputs, dim=0)
    layer.weight.div_(_deviation(variance))
    layer.bias.sub_(layer.weight @ mean)


def _standardise_outputs(layer: nn.Linear, inputs: Tensor) -> None:
    variance, mean = torch.var_mean(layer(inputs), dim=0)
    deviation = _deviation(variance)
    layer.weight.div_(deviation[:, None])
    layer.bias.sub_(mean).div_(deviation)


def _deviation(variance: Tensor) -> Tensor:
    """Deviations, none much below the typical one: what hardly varies here must not be blown up into noise."""
    deviation = variance.sqrt()
    floor = 0.1 * deviation.mean()
    return deviation.clamp(min=floor) if floor > 0 else torch.ones_like(deviation)
