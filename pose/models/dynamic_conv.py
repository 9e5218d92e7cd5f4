"""Dynamic convolution: a small attention mixes K kernels into one kernel for each sample.

Source: *Dynamic Convolution: Attention over Convolution Kernels* (Chen et al., CVPR 2020), section 3. For an input x

    pi(x) = softmax(fc2(relu(fc1(mean(x)))) / tau)
    y = (sum_k pi_k(x) W_k) * x + sum_k pi_k(x) b_k

Mixing is one matrix product, whatever the kernel. N samples then meet N kernels in the form that measured fastest
(forward and backward, the shapes of MobileNetV2 and its type-B head): batch 1 is a plain convolution, kernels of
one pixel are matrix products, all others are one convolution with the batch folded into its groups, or a convolution a
sample in channels_last memory on a CPU, where folding would shuffle every pixel.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose.models.depthwise import conv2d

Pair = tuple[int, int]
AttentionKind = Literal["softmax", "sigmoid"]

CHUNK_BYTES = 5 << 19
"""At inference 1x1 kernels are mixed and used 2.5 MB at a time, so that they are still in the core's cache."""

CONV_WORK = 12_000_000
"""Multiply-adds a sample from which 1x1 convolutions beat the batched matrix product on a CPU."""


class KernelAttention(nn.Module):
    """The weights of K kernels, from the input's channel means (paper, section 3.2 and Figure 3).

    Args:
        channels: of the input.
        num_kernels: K.
        reduction: channels over hidden units, of which one always remains.
        temperature: tau of the softmax; the larger, the more equal the weights.
        kind: ``softmax`` (the paper), or ``sigmoid``: CondConv's independent weights, without a temperature.
    """

    temperature: Tensor

    def __init__(
        self, channels: int, num_kernels: int, reduction: int, temperature: float, kind: AttentionKind
    ) -> None:
        super().__init__()
        self.kind = kind
        hidden = max(1, channels // reduction)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, num_kernels)
        # Saved with the weights, which fit no other temperature.
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, K)."""
        # A sum's gradient is a view where a mean's is another map. fp16 lacks the range for sums; bf16 has it, and is
        # added up in fp32 and rounded once, without the copy in fp32 that asking for one makes.
        total = x.sum((2, 3), dtype=torch.float32 if x.dtype == torch.float16 else None)
        pixels = int(x.shape[2]) * int(x.shape[3])  # ints also while a tracer watches, which sees tensors
        if x.dtype == torch.float16:
            total, pixels = (total / pixels).to(x.dtype), 1
        # On one sample these layers are all overhead: the division by the pixels is part of the product, and calling
        # `fc1` and `fc2` as modules takes nearly twice their time.
        hidden = torch.addmm(self.fc1.bias, total, self.fc1.weight.t(), alpha=1 / pixels).relu_()
        logits = torch.addmm(self.fc2.bias, hidden, self.fc2.weight.t())
        return logits.sigmoid() if self.kind == "sigmoid" else (logits / self.temperature).softmax(1)


class DynamicConv2d(nn.Module):
    """A convolution whose kernel is mixed anew for each sample; a `torch.nn.Conv2d` to its neighbours.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: side or (height, width).
        stride: step of the kernel.
        padding: zeros added on every side.
        dilation: distance between the kernel's taps.
        groups: divides both numbers of channels.
        bias: mix K biases as well; a batch norm behind makes them useless.
        num_kernels: K.
        reduction: input channels over the attention's hidden units.
        temperature: tau of the softmax; `set_temperature` changes it.
        attention: ``softmax`` or ``sigmoid``.

    Raises:
        ValueError: an argument is impossible.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = False,
        num_kernels: int = 4,
        reduction: int = 4,
        temperature: float = 30.0,
        attention: AttentionKind = "softmax",
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)
        self.num_kernels = num_kernels
        self._check()
        _check_attention(num_kernels, reduction, temperature, attention)
        self.attention = KernelAttention(in_channels, num_kernels, reduction, temperature, attention)
        self.weight = nn.Parameter(torch.empty(num_kernels, out_channels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.zeros(num_kernels, out_channels)) if bias else None
        with torch.no_grad():
            for kernel in self.weight:
                nn.init.kaiming_normal_(kernel, mode="fan_out")

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W').

        Args:
            x: the input.
            shift: (out_channels,) constant bias, which is not mixed: that of a batch norm that was folded in.
        """
        attention = self.attention(x)
        # The sum of no rows gives an empty batch a kernel to be shaped by.
        rows = attention if len(x) else attention.sum(0, keepdim=True)
        bias = None if self.bias is None else _mix(rows, self.bias)
        if shift is not None:
            bias = shift if bias is None else bias + shift
        if len(x) <= 1:
            bias = None if bias is None else bias.view(-1)
            return functional.conv2d(
                x, _mix(rows, self.weight)[0], bias, self.stride, self.padding, self.dilation, self.groups
            )
        if self.is_pointwise:
            y = self._pointwise(x, attention)
        elif x.device.type == "cpu" and _is_channels_last(x):
            y = self._sample_by_sample(x, _mix(attention, self.weight))
        else:
            y = self._batch_in_groups(x, _mix(attention, self.weight))
        return y if bias is None else y.add_(bias[..., None, None])

    @property
    def is_pointwise(self) -> bool:
        """Whether each output pixel is one matrix times one input pixel."""
        return self.kernel_size == (1, 1) and self.padding == (0, 0) and self.groups == 1

    def _pointwise(self, x: Tensor, attention: Tensor) -> Tensor:
        product = _pointwise_matmul
        if _is_channels_last(x):
            product = _pointwise_matmul_last
        elif _conv_is_faster(x, self.out_channels, self.stride):
            product = _pointwise_conv
        x = x[:, :, :: self.stride[0], :: self.stride[1]]
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return product(x, _mix(attention, self.weight))
        samples = max(1, CHUNK_BYTES // (self.weight[0].numel() * x.element_size()))
        chunks = zip(torch.split(x, samples), torch.split(attention, samples), strict=True)
        parts = [product(part, _mix(weights, self.weight)) for part, weights in chunks]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _sample_by_sample(self, x: Tensor, kernels: Tensor) -> Tensor:
        samples = zip(x.split(1), kernels.unbind(), strict=True)
        options = (self.stride, self.padding, self.dilation, self.groups)
        return torch.cat([conv2d(sample, kernel, *options) for sample, kernel in samples])

    def _batch_in_groups(self, x: Tensor, kernels: Tensor) -> Tensor:
        folded = x.reshape(1, -1, *x.shape[2:])
        groups = len(x) * self.groups
        y = conv2d(folded, kernels.flatten(0, 1), self.stride, self.padding, self.dilation, groups)
        return y.view(len(x), self.out_channels, *y.shape[2:])

    def extra_repr(self) -> str:
        """Say what `print` shows."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, num_kernels={self.num_kernels}"
        )

    def _check(self) -> None:
        sizes = (self.in_channels, self.out_channels, self.groups, *self.kernel_size, *self.stride, *self.dilation)
        if min(sizes) < 1 or min(self.padding) < 0:
            raise ValueError(f"DynamicConv2d: expected positive sizes (padding may be 0), got {self.extra_repr()}")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"DynamicConv2d: expected channels that groups divides, got {self.in_channels} -> "
                f"{self.out_channels} in {self.groups} groups"
            )


def set_temperature(module: nn.Module, temperature: float) -> None:
    """Set tau of every dynamic convolution in ``module``, in place; static models stay as they are.

    Raises:
        ValueError: ``temperature`` is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number above 0, got {temperature}")
    for child in module.modules():
        if isinstance(child, KernelAttention):
            child.temperature.fill_(temperature)


def _check_attention(num_kernels: int, reduction: int, temperature: float, attention: str) -> None:
    if num_kernels < 1 or reduction < 1 or not temperature > 0:
        raise ValueError(
            "DynamicConv2d: expected num_kernels >= 1, reduction >= 1 and temperature > 0, "
            f"got {num_kernels}, {reduction} and {temperature}"
        )
    if attention not in ("softmax", "sigmoid"):
        raise ValueError(f"DynamicConv2d: expected attention 'softmax' or 'sigmoid', got {attention!r}")


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


def _mix(attention: Tensor, bank: Tensor) -> Tensor:
    """(N, K) weights and (K, ...) tensors to (N, ...) sums."""
    return (attention @ bank.flatten(1)).view(len(attention), *bank.shape[1:])


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _conv_is_faster(x: Tensor, out_channels: int, stride: Pair) -> bool:
    work = x[0].numel() * out_channels // (stride[0] * stride[1])
    return x.device.type == "cpu" and work >= CONV_WORK


def _pointwise_matmul(x: Tensor, kernels: Tensor) -> Tensor:
    return torch.bmm(kernels.flatten(2), x.flatten(2)).view(len(x), -1, *x.shape[2:])


def _pointwise_matmul_last(x: Tensor, kernels: Tensor) -> Tensor:
    """The same where the channels of a pixel lie side by side, and for outputs that do."""
    pixels = x.permute(0, 2, 3, 1)
    product = torch.bmm(pixels.flatten(1, 2), kernels.flatten(2).transpose(1, 2))
    return product.view(*pixels.shape[:3], -1).permute(0, 3, 1, 2)


def _pointwise_conv(x: Tensor, kernels: Tensor) -> Tensor:
    # One pixel feels no dilation, but with it PyTorch calls oneDNN, which on one thread it otherwise leaves for a
    # general matrix product: half the speed on AVX-512 machines that are not Intel's.
    samples = zip(x.unbind(), kernels.unbind(), strict=True)
    return torch.cat([functional.conv2d(sample[None], kernel, dilation=2) for sample, kernel in samples])
