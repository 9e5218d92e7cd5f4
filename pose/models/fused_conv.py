"""Dynamic convolutions on their way out of PyTorch: the batch norm folded in, and the forms that engines are fast with.

`pose.models.fuse` makes the first of a model's dynamic convolutions, `pose.export.onnx` one of the others of the first.
"""

from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pose.models.dynamic_conv import DynamicConv2d, KernelAttention


class FusedDynamicConv2d(nn.Module):
    """A dynamic convolution, the batch norm behind it and the temperature, for predicting.

    The norm's scale goes into every kernel, and into every bias where there are any. Its shift stays one constant
    beside the mixture, so that it counts once, whatever the weights of the kernels sum to: 1 of a softmax, anything of
    sigmoids. The temperature divides what the attention's second layer gives, so that layer takes it up.

    Args:
        conv: changed in place, and kept.
        norm: with running statistics; not changed.
    """

    def __init__(self, conv: DynamicConv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        weight, shift = _scaled(conv.weight, norm)
        conv.weight = nn.Parameter(weight)
        if conv.bias is not None:
            conv.bias = nn.Parameter(_scaled(conv.bias, norm)[0])
        fuse_temperature(conv.attention)
        self.conv = conv
        self.shift = nn.Parameter(shift)
        self._is_lean = conv.bias is None and conv.attention.kind == "softmax"
        # A module looks its parameters up slowly: ten of them take as long as a small convolution. Their dicts are
        # the modules' own, so what moves or loads a module's parameters does it here.
        self._parameter_dicts: list[dict[str, Any]] = [
            module._parameters for module in (conv, conv.attention.fc1, conv.attention.fc2)
        ]
        self._options = (conv.stride, conv.padding, conv.dilation, conv.groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        if len(x) == 1 and self._is_lean and x.dtype != torch.float16:  # fp16 lacks the range for sums
            return self._one_sample(x)
        y: Tensor = self.conv(x, self.shift)
        return y

    def _one_sample(self, x: Tensor) -> Tensor:
        """Do the same in as few operators as there can be: on one sample each counts, and the Python around it."""
        kernels, fc1, fc2 = self._parameter_dicts
        height, width = x.shape[2:]
        hidden = torch.addmm(fc1["bias"], x.sum((2, 3)), fc1["weight"].t(), alpha=1 / (height * width)).relu_()
        attention = torch.addmm(fc2["bias"], hidden, fc2["weight"].t()).softmax(1)
        bank = kernels["weight"]
        shape = bank.shape
        kernel = attention.mm(bank.view(shape[0], -1)).view(shape[1:])
        return torch.conv2d(x, kernel, self._parameters["shift"], *self._options)


@torch.no_grad()
def fuse_temperature(attention: KernelAttention) -> None:
    """Let the second layer take the temperature up, which is 1 then; a sigmoid attention has no use for it."""
    if attention.kind == "softmax":
        attention.fc2.weight.div_(attention.temperature)
        attention.fc2.bias.div_(attention.temperature)
    attention.temperature.fill_(1)


def _scaled(bank: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return (K, out_channels, ...) tensors times a batch norm's scale, and its shift (out_channels,)."""
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    # The library expects the output channels first, and what follows them is all the same to it.
    weight, shift = fuse_conv_bn_weights(bank.detach().transpose(0, 1), None, *statistics)  # type: ignore[arg-type]
    return weight.detach().transpose(0, 1).contiguous(), shift.detach()


class BackendDynamicConv2d(nn.Module):
    """The same in operators that an engine is fast with; its subclasses are the forms.

    Args:
        conv: kept.
        shift: (out_channels,) constant bias, as of `FusedDynamicConv2d`.
    """

    def __init__(self, conv: DynamicConv2d, shift: Tensor | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.shift = None if shift is None else nn.Parameter(shift.detach())


class OneSampleDynamicConv2d(BackendDynamicConv2d):
    """For a batch of one: a plain convolution with the mixed kernel, which OpenVINO runs as fast as any.

    Mixing is the K kernels, each times its weight, added up: OpenVINO makes one loop of that.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (1, in_channels, H, W) to (1, out_channels, H', W')."""
        conv = self.conv
        attention = conv.attention(x)[0]
        kernel = _mix(attention, conv.weight)
        bias = None if conv.bias is None else _mix(attention, conv.bias)
        if self.shift is not None:
            bias = self.shift if bias is None else bias + self.shift
        return functional.conv2d(x, kernel, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def _mix(attention: Tensor, bank: Tensor) -> Tensor:
    """(K,) weights and (K, ...) tensors to their sum."""
    weighed: list[Tensor] = [weight * tensor for weight, tensor in zip(attention, bank, strict=True)]
    return reduce(torch.add, weighed)


class BatchFreeDynamicConv2d(BackendDynamicConv2d):
    """In operators that know no batch size, for graphs that are traced once and run with any batch.

    `DynamicConv2d` folds a batch into the groups of a convolution, whose number a graph freezes. Here a convolution
    without groups is a product of matrices: the mixed kernels times the patches under them (times the pixels, for one
    of 1x1). With groups, where a matrix would be mostly zeros, the *inputs* are weighed instead of the kernels: the sum
    of K static convolutions, one of each kernel.

    That is K times the work of a depthwise convolution, and yet on a CPU ONNX Runtime gains by it: only constant
    kernels have its fast memory layout. Measured at batch 1 on one busy core, K = 4, times over those of plain
    convolutions with the mixed kernels: MobileNetV2 with type B 0.8 to 0.9, ResNet-10 (3x3 patches) 1.2.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        conv = self.conv
        attention = conv.attention(x)
        y = self._patches_times_kernels(x, attention) if conv.groups == 1 else self._sum_of_convs(x, attention)
        return y if conv.bias is None else y + (attention @ conv.bias)[:, :, None, None]

    def _patches_times_kernels(self, x: Tensor, attention: Tensor) -> Tensor:
        conv = self.conv
        # Patches have a tap's channels side by side, so the kernels have their taps in front of their channels.
        bank = conv.weight.permute(0, 1, 3, 4, 2).flatten(1)
        kernels = (attention @ bank).view(-1, conv.out_channels, bank.shape[1] // conv.out_channels)
        taps, size_hw = _taps(x, conv)
        patches = taps[0] if len(taps) == 1 else torch.cat(taps, 1)
        y = kernels @ patches.flatten(2)
        if self.shift is not None:
            y = y + self.shift[:, None]
        return y.view(-1, conv.out_channels, *size_hw)

    def _sum_of_convs(self, x: Tensor, attention: Tensor) -> Tensor:
        conv = self.conv
        options = (conv.stride, conv.padding, conv.dilation, conv.groups)
        inputs = [x * weight for weight in attention[:, :, None, None].split(1, 1)]
        # The sum grows convolution by convolution: each addition becomes a part of the convolution before it.
        y = functional.conv2d(inputs[0], conv.weight[0], self.shift, *options)
        for weighed, kernel in zip(inputs[1:], conv.weight[1:], strict=True):
            y = functional.conv2d(weighed, kernel, None, *options) + y
        return y


def _taps(x: Tensor, conv: DynamicConv2d) -> tuple[list[Tensor], tuple[int, int]]:
    """Return what each tap of a kernel meets, (N, in_channels, H', W') row by row, and H' and W'."""
    starts, ends, size_hw = [], [], []
    for axis in range(2):
        side, stride, dilation = conv.kernel_size[axis], conv.stride[axis], conv.dilation[axis]
        # An int, also while a tracer watches: a map's size is known, and a graph without arithmetic on it is faster.
        size = (int(x.shape[2 + axis]) + 2 * conv.padding[axis] - dilation * (side - 1) - 1) // stride + 1
        starts.append([dilation * tap for tap in range(side)])
        ends.append([start + stride * (size - 1) + 1 for start in starts[-1]])
        size_hw.append(size)
    if any(conv.padding):
        x = functional.pad(x, (conv.padding[1], conv.padding[1], conv.padding[0], conv.padding[0]))
    if conv.kernel_size == conv.stride == (1, 1):
        return [x], (size_hw[0], size_hw[1])
    rows = [x[:, :, start : end : conv.stride[0]] for start, end in zip(starts[0], ends[0], strict=True)]
    columns = list(zip(starts[1], ends[1], strict=True))
    taps = [row[:, :, :, start : end : conv.stride[1]] for row in rows for start, end in columns]
    return taps, (size_hw[0], size_hw[1])
