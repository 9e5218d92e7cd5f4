"""Dynamic convolutions for inference: batch norm fused, one variant for each backend.

`pose.models.fuse` creates `FusedDynamicConv2d`, the variant for PyTorch. `pose.export.onnx` replaces it by a variant
of `BackendDynamicConv2d`.
"""

from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pose.models.dynamic_conv import DynamicConv2d
from pose.models.kernel_attention import KernelAttention, is_proxy, leaf_node


class FusedDynamicConv2d(nn.Module):
    """A dynamic convolution with the following batch norm and the temperature fused, for inference.

    The scale of the batch norm is multiplied into every kernel and bias. Its shift is added after aggregation: in every
    bias it would be multiplied by the sum of the attention weights, which is 1 for softmax only. The weights of the
    attention's second layer are divided by the temperature.

    Args:
        conv: kept, and changed in place.
        norm: batch norm with running statistics; not changed.
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
        self._has_fast_path = conv.bias is None and conv.attention.kind == "softmax" and conv.pad is None
        # Attribute access to parameters is slow: ten of them take as long as a small convolution. These dicts belong to
        # the modules, so moving or loading parameters changes them here, too.
        self._parameter_dicts: list[dict[str, Any]] = [
            module._parameters for module in (conv, conv.attention.fc1, conv.attention.fc2) if module is not None
        ]
        self._options = (conv.stride, conv.padding, conv.dilation, conv.groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        if is_proxy(x):
            return leaf_node(self, x)  # type: ignore[no-any-return]
        if self._has_fast_path and x.dim() == 4 and not torch.compiler.is_compiling() and x.shape[0] == 1:
            return self._forward_single(x)
        y: Tensor = self.conv(x, self.shift)
        return y

    def _forward_single(self, x: Tensor) -> Tensor:
        """Compute one sample with as few operators and as little Python as possible: their overhead dominates."""
        kernels, fc1, fc2 = self._parameter_dicts
        pixels = int(x.shape[2]) * int(x.shape[3])  # plain numbers also under tracing
        hidden = torch.addmm(fc1["bias"], x.sum((2, 3)), fc1["weight"].t(), alpha=1 / pixels).relu_()
        if hidden.dtype == torch.float16:  # of the input or by autocast: the sum could overflow
            y: Tensor = self.conv(x, self.shift)
            return y
        attention = torch.addmm(fc2["bias"], hidden, fc2["weight"].t()).softmax(1)
        weight = kernels["weight"]
        shape = weight.shape
        kernel = attention.mm(weight.view(shape[0], -1)).view(shape[1:])
        return torch.conv2d(x, kernel, self._parameters["shift"], *self._options)


@torch.no_grad()
def fuse_temperature(attention: KernelAttention) -> None:
    """Divide the last linear layer by the temperature and set that to 1; sigmoid attention does not use it."""
    if attention.kind == "softmax":
        attention.fc2.weight.div_(attention.temperature)
        attention.fc2.bias.div_(attention.temperature)
    attention.temperature.fill_(1)


def _scaled(bank: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale kernels or biases (K, out_channels, ...) by a batch norm; also return its shift (out_channels,)."""
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    # PyTorch expects the output channels first and accepts any dimensions after them.
    weight, shift = fuse_conv_bn_weights(bank.detach().transpose(0, 1), None, *statistics)  # type: ignore[arg-type]
    return weight.detach().transpose(0, 1).contiguous(), shift.detach()


class BackendDynamicConv2d(nn.Module):
    """Base of dynamic convolutions in operators that are fast in an inference backend, one subclass for each variant.

    Args:
        conv: the convolution to compute; kept.
        shift: (out_channels,) bias added after aggregation, see `FusedDynamicConv2d`.
    """

    def __init__(self, conv: DynamicConv2d, shift: Tensor | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.shift = None if shift is None else nn.Parameter(shift.detach())


class OneSampleDynamicConv2d(BackendDynamicConv2d):
    """Variant for batch 1 in OpenVINO: a plain convolution with the aggregated kernel, as fast as any convolution.

    Aggregation is a sum of K products of weight and kernel, which OpenVINO merges into one loop.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (1, in_channels, H, W) to (1, out_channels, H', W')."""
        conv = self.conv
        attention = conv.attention(x)[0]
        kernel = _aggregate(attention, conv.weight)
        bias = None if conv.bias is None else _aggregate(attention, conv.bias)
        if self.shift is not None:
            bias = self.shift if bias is None else bias + self.shift
        x = conv.pad_input(x)
        return functional.conv2d(x, kernel, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def _aggregate(attention: Tensor, bank: Tensor) -> Tensor:
    """Return the sum of K tensors (K, ...) with weights (K,)."""
    weighted: list[Tensor] = [weight * tensor for weight, tensor in zip(attention, bank, strict=True)]
    return reduce(torch.add, weighted)


class BatchFreeDynamicConv2d(BackendDynamicConv2d):
    """Variant for graphs that are traced once and run with any batch size, such as ONNX files.

    `DynamicConv2d` uses a convolution with N * groups groups, a number that a graph freezes. Here a convolution without
    groups is a matrix product of the aggregated kernels and the input patches (the pixels, for a 1x1 kernel). With
    groups this matrix would be mostly zeros, so the inputs are weighted instead of the kernels:

        y = sum_k W_k * (pi_k(x) x)        K static convolutions

    That is K times the work of a depthwise convolution, but faster in ONNX Runtime on a CPU, which has its fast memory
    layout for constant kernels only. Measured times relative to a plain convolution with aggregated kernels, at batch 1
    on one busy core with K = 4: MobileNetV2 with type-B head 0.8 to 0.9, ResNet-10 (3x3 patches) 1.2.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        conv = self.conv
        attention = conv.attention(x)
        x = conv.pad_input(x)
        y = self._patch_matmul(x, attention) if conv.groups == 1 else self._sum_of_convs(x, attention)
        return y if conv.bias is None else y + (attention @ conv.bias)[:, :, None, None]

    def _patch_matmul(self, x: Tensor, attention: Tensor) -> Tensor:
        conv = self.conv
        # The rows of a patch are ordered tap by tap, then by channel, so the kernels are, too.
        bank = conv.weight.permute(0, 1, 3, 4, 2).flatten(1)
        kernels = (attention @ bank).view(-1, conv.out_channels, bank.shape[1] // conv.out_channels)
        taps, size_hw = _tap_inputs(x, conv)
        patches = taps[0] if len(taps) == 1 else torch.cat(taps, 1)
        y = kernels @ patches.flatten(2)
        if self.shift is not None:
            y = y + self.shift[:, None]
        return y.view(-1, conv.out_channels, *size_hw)

    def _sum_of_convs(self, x: Tensor, attention: Tensor) -> Tensor:
        conv = self.conv
        options = (conv.stride, conv.padding, conv.dilation, conv.groups)
        inputs = [x * weight for weight in attention[:, :, None, None].split(1, 1)]
        # Added one after the other, so that the backend can merge each addition into the convolution before it.
        y = functional.conv2d(inputs[0], conv.weight[0], self.shift, *options)
        for weighted, kernel in zip(inputs[1:], conv.weight[1:], strict=True):
            y = functional.conv2d(weighted, kernel, None, *options) + y
        return y


def _tap_inputs(x: Tensor, conv: DynamicConv2d) -> tuple[list[Tensor], tuple[int, int]]:
    """Return the input of each tap of a kernel, (N, in_channels, H', W') in row order, and the output size (H', W')."""
    starts, ends, size_hw = [], [], []
    for axis in range(2):
        side, stride, dilation = conv.kernel_size[axis], conv.stride[axis], conv.dilation[axis]
        # A plain int under tracing, too: the size is fixed, and a graph without arithmetic on sizes is faster.
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
