"""Depthwise convolution whose gradients are as fast as its outputs, on a CPU.

PyTorch's CPU library computes two of them by slow general code: the weight gradient of kernels wider than 3x3, and, in
half precision, the input gradient at stride 2. Both are sums that its fast code knows under another name:

- the 25 taps of a 5x5 kernel are four overlapping squares of 3x3 taps, each the weight gradient of a 3x3 convolution
  over a shifted input (4 times faster at the type-B head's shapes in bf16);
- the input gradient of a convolution that keeps the size is that convolution with the kernel turned round, applied to
  the gradient spread out by the stride (10 times and more).

Forward values do not change, gradients not beyond rounding.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

Pair = tuple[int, int]


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with the gradients of `conv2d`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if bias is None and self.padding_mode == "zeros" and not isinstance(self.padding, str):
            return conv2d(input, weight, self.stride, self.padding, self.dilation, self.groups)  # type: ignore[arg-type]
        y: Tensor = super()._conv_forward(input, weight, bias)
        return y


def conv2d(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Tensor:
    """`torch.nn.functional.conv2d` without bias; where it has slow gradients on a CPU, with fast ones."""
    if not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad) and x.device.type == "cpu"):
        return functional.conv2d(x, weight, None, stride, padding, dilation, groups)
    if torch.is_autocast_enabled("cpu"):
        # A function with its own gradients is not cast by autocast.
        lower = torch.get_autocast_dtype("cpu")
        x, weight = x.to(lower), weight.to(lower)
    side = weight.shape[-1]
    keeps_size = weight.shape[2:] == (side, side) and padding == (side // 2, side // 2) and side % 2 == 1
    is_depthwise = weight.shape[:2] == (groups, 1) and x.shape[1] == groups
    slow = side == 5 or (side == 3 and stride == (2, 2) and x.dtype != torch.float32)
    if keeps_size and is_depthwise and slow and dilation == (1, 1) and stride[0] == stride[1] and x.numel():
        y: Tensor = _Depthwise.apply(x, weight, stride[0])
        return y
    return functional.conv2d(x, weight, None, stride, padding, dilation, groups)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution of odd kernel that keeps the size at stride 1."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride  # type: ignore[attr-defined]
        return functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        stride: int = ctx.stride  # type: ignore[attr-defined]
        wants_input, wants_weight = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        return (
            _input_gradient(gradient, x, weight, stride) if wants_input else None,
            _weight_gradient(gradient, x, weight, stride) if wants_weight else None,
            None,
        )


def _input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    if stride == 1 or x.dtype == torch.float32:
        return _library_gradient(gradient, x, weight, stride, weight.shape[-1] // 2, of_input=True)
    spread = torch.zeros_like(x)
    spread[:, :, ::stride, ::stride] = gradient
    return functional.conv2d(spread, weight.flip(2, 3), None, 1, weight.shape[-1] // 2, 1, len(weight))


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    if weight.shape[-1] == 3:
        return _library_gradient(gradient, x, weight, stride, 1, of_input=False)
    height, width = (stride * (size - 1) + 3 for size in gradient.shape[2:])
    padded = functional.pad(x, (2, 2, 2, 2))
    square = weight[:, :, :3, :3]
    result = torch.empty_like(weight)
    for top in (0, 2):
        for left in (0, 2):
            shifted = padded[:, :, top : top + height, left : left + width]
            taps = _library_gradient(gradient, shifted, square, stride, 0, of_input=False)
            result[:, :, top : top + 3, left : left + 3] = taps
    return result


def _library_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, of_input: bool) -> Tensor:
    sizes = ([stride, stride], [padding, padding], [1, 1], False, [0, 0], len(weight))
    mask = [of_input, not of_input, False]
    result: Tensor = torch.ops.aten.convolution_backward(gradient, x, weight, None, *sizes, mask)[0 if of_input else 1]
    return result
