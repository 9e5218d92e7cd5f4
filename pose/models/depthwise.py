"""Depthwise convolution with a fast backward pass on CPUs.

For stride s, an odd kernel of k x k taps and padding p = k // 2, each channel of a depthwise convolution computes

    y[i, j]     = sum_uv w[u, v] x[s i + u - p, s j + v - p]
    dL/dw[u, v] = sum_ij dL/dy[i, j] x[s i + u - p, s j + v - p]
    dL/dx[a, b] = sum_uv w[u, v] dL/dy[(a + p - u) / s, (b + p - v) / s]      where both indices are integers

PyTorch's CPU library has slow general code for the weight gradient of kernels larger than 3x3 and, in half precision,
for the input gradient at stride 2. Both can be computed by its fast code:

- The weight gradient of a 5x5 kernel consists of two overlapping blocks of 5 rows and 3 columns, the most columns that
  the fast code takes. Each block is the weight gradient of a 5x3 convolution over a shifted input (several times faster
  at the shapes of the type-B head).
- The input gradient is a convolution of stride 1 with the kernel rotated by 180 degrees. Its input is dL/dy with s - 1
  zeros between its rows and columns (10 times faster and more).

Outputs are the same as PyTorch's, gradients are the same up to rounding.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from pose.models.kernel_attention import is_exporting

Pair = tuple[int, int]
"""Values for height and width."""


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with the fast backward pass of `conv2d`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if bias is None and self.padding_mode == "zeros" and not isinstance(self.padding, str):
            return conv2d(input, weight, self.stride, self.padding, self.dilation, self.groups)  # type: ignore[arg-type]
        y: Tensor = super()._conv_forward(input, weight, bias)
        return y


def conv2d(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Tensor:
    """`torch.nn.functional.conv2d` without bias, with a fast backward pass where PyTorch has a slow one on a CPU.

    Args:
        x: (N, C, H, W).
        weight: (out_channels, C / groups, height, width).
        stride: of height and width, as are ``padding`` and ``dilation``.
        padding: zeros added on both sides.
        dilation: spacing of the taps.
        groups: C for a depthwise convolution; every other convolution is PyTorch's own.
    """
    needs_gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if not needs_gradient or x.device.type != "cpu" or is_exporting():
        return functional.conv2d(x, weight, None, stride, padding, dilation, groups)
    if torch.is_autocast_enabled("cpu"):
        # Autocast does not cast the inputs of a custom autograd function.
        x, weight = autocast(x), autocast(weight)
    side = weight.shape[-1]
    keeps_size = weight.shape[2:] == (side, side) and padding == (side // 2, side // 2) and side % 2 == 1
    is_depthwise = weight.shape[:2] == (groups, 1) and x.shape[1] == groups
    is_slow = side == 5 or (side == 3 and stride == (2, 2) and x.dtype != torch.float32)
    if keeps_size and is_depthwise and is_slow and dilation == (1, 1) and stride[0] == stride[1] and x.numel():
        y: Tensor = _Depthwise.apply(x, weight, stride[0])
        return y
    return functional.conv2d(x, weight, None, stride, padding, dilation, groups)


def is_channels_last(x: Tensor) -> bool:
    """Whether ``x`` (N, C, H, W) has the channels_last layout and not the default one, which some shapes have, too."""
    # In this order, because `torch.vmap` can tell only the default layout.
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def autocast(tensor: Tensor) -> Tensor:
    """Cast as autocast casts the inputs of a convolution on a CPU: everything but float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.to(torch.get_autocast_dtype("cpu"))


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution with an odd square kernel and padding for equal size at stride 1.

    The backward pass consists of differentiable operators, so that second derivatives are PyTorch's own.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, stride: int) -> Tensor:
        return functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, weight.shape[0])

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        x, weight, stride = inputs
        ctx.save_for_backward(x, weight)
        ctx.stride = stride  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        stride: int = ctx.stride  # type: ignore[attr-defined]
        needs_input, needs_weight = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        return (
            _input_gradient(gradient, x, weight, stride) if needs_input else None,
            _weight_gradient(gradient, x, weight, stride) if needs_weight else None,
            None,
        )


def _input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    pad = weight.shape[-1] // 2
    if stride == 1 or x.dtype == torch.float32:
        return _aten_gradient(gradient, x, weight, stride, (pad, pad), of_input=True)
    upsampled = _zeros_like(x, gradient)
    upsampled[:, :, ::stride, ::stride] = gradient
    return functional.conv2d(upsampled, weight.flip(2, 3), None, 1, pad, 1, weight.shape[0])


def _zeros_like(x: Tensor, gradient: Tensor) -> Tensor:
    """Return zeros in the shape and memory layout of ``x``; batched by `torch.vmap` where ``gradient`` is."""
    # Gradients in another layout than the activations make the batch norm before this layer ten times slower.
    if is_channels_last(x):
        count, channels, height, width = x.shape
        return gradient.new_zeros((count, height, width, channels)).permute(0, 3, 1, 2)
    return gradient.new_zeros(x.shape)


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    if weight.shape[-1] == 3:
        return _aten_gradient(gradient, x, weight, stride, (1, 1), of_input=False)
    columns = weight[..., :3]
    left = _aten_gradient(gradient, functional.pad(x, (2, 0)), columns, stride, (2, 0), of_input=False)
    right = _aten_gradient(gradient, functional.pad(x, (0, 2)), columns, stride, (2, 0), of_input=False)
    return torch.cat([left, right[..., 1:]], 3)


def _aten_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: Pair, of_input: bool) -> Tensor:
    options = ([stride, stride], list(padding), [1, 1], False, [0, 0], weight.shape[0])
    mask = [of_input, not of_input, False]
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(gradient, x, weight, None, *options, mask)
    return gradients[0 if of_input else 1]
