"""Data-dependent initialization of batch norm and attention, before the first training step."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose.models.kernel_attention import KernelAttention

SAMPLES = 128
"""Number of training samples that calibration uses."""

Hook = Callable[[Any, tuple[Tensor, ...]], None]


@torch.no_grad()
def calibrate_batch_norm(model: nn.Module, inputs: Tensor) -> None:
    """Set the running statistics of every batch norm from ``inputs``, and adapt scale and shift to keep the outputs.

    For weights whose batch norm was fused into the convolutions: their running statistics are placeholders, and the
    model would compute something else in training mode, with batch statistics. Afterwards both modes agree.

    Args:
        model: its outputs in evaluation mode do not change, except by rounding.
        inputs: (B, 3, H, W) normalized images, enough for typical statistics.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    _run_with_hooks(model, inputs, [(layer, _set_batch_norm) for layer in layers])


@torch.no_grad()
def calibrate_attention(model: nn.Module, attentions: Iterable[KernelAttention], inputs: Tensor) -> None:
    """Scale attentions so that their logits over tau have mean 0 and standard deviation 1 over ``inputs``.

    After initialization they hardly depend on the input (in a trained MobileNetV2 the standard deviation of the logits
    is .02 to .2, in its type-B head .001), and the equal kernels of an inflated layer separate only as far as the
    attention differs between inputs.

    Args:
        model: holds the attentions; its outputs do not change as long as the kernels of each layer are equal.
        attentions: to scale. Their first layer standardizes its inputs, their last its outputs.
        inputs: (B, 3, H, W) normalized images, B at least 2.
    """
    layers = list(attentions)
    _run_with_hooks(model, inputs, [(layer, _standardize) for layer in layers])
    for layer in layers:
        if layer.kind == "softmax":
            layer.fc2.weight.mul_(layer.temperature)
            layer.fc2.bias.mul_(layer.temperature)


def _run_with_hooks(model: nn.Module, inputs: Tensor, hooks: Iterable[tuple[nn.Module, Hook]]) -> None:
    """Run one forward pass in evaluation mode; each module's hook receives its inputs before the module runs."""
    handles = [module.register_forward_pre_hook(hook) for module, hook in hooks]
    was_training = model.training
    try:
        model.eval()(inputs)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()


def _set_batch_norm(layer: nn.BatchNorm2d, arguments: tuple[Tensor, ...]) -> None:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    variance, mean = torch.var_mean(arguments[0], dim=(0, 2, 3), correction=0)
    scale = layer.weight / torch.sqrt(layer.running_var + layer.eps)
    layer.bias.add_(scale * (mean - layer.running_mean))
    layer.weight.copy_(scale * torch.sqrt(variance + layer.eps))
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)


def _standardize(layer: KernelAttention, arguments: tuple[Tensor, ...]) -> None:
    features = arguments[0]
    means = features if features.dim() == 2 else features.mean((2, 3))
    if layer.fc1 is None:
        return _standardize_outputs(layer.fc2, means)
    _standardize_inputs(layer.fc1, means)
    _standardize_outputs(layer.fc2, functional.relu(layer.fc1(means)))


def _standardize_inputs(layer: nn.Linear, inputs: Tensor) -> None:
    variance, mean = torch.var_mean(inputs, dim=0)
    layer.weight.div_(_bounded_deviation(variance))
    layer.bias.sub_(layer.weight @ mean)


def _standardize_outputs(layer: nn.Linear, inputs: Tensor) -> None:
    variance, mean = torch.var_mean(layer(inputs), dim=0)
    deviation = _bounded_deviation(variance)
    layer.weight.div_(deviation[:, None])
    layer.bias.sub_(mean).div_(deviation)


def _bounded_deviation(variance: Tensor) -> Tensor:
    """Standard deviations, at least a tenth of their mean: nearly constant values must not be amplified to noise."""
    deviation = variance.sqrt()
    floor = 0.1 * deviation.mean()
    return deviation.clamp(min=floor) if floor > 0 else torch.ones_like(deviation)
