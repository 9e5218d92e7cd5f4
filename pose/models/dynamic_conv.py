"""Dynamic convolution: attention over K parallel kernels, which are aggregated into one kernel for each sample.

Source: *Dynamic Convolution: Attention over Convolution Kernels* (Chen et al., CVPR 2020), sections 3 and 4.2. For a
sample x, kernels W_k and biases b_k, k = 1..K:

    pi(x) = softmax(fc2(relu(fc1(avgpool(x)))) / tau)        attention: K weights that sum to 1
    W(x) = sum_k pi_k(x) W_k,  b(x) = sum_k pi_k(x) b_k      aggregation
    y = W(x) * x + b(x)                                      convolution

The convolution costs H W Cin Cout k^2 / groups multiply-adds (at stride 1), as a static one does. Attention adds
H W Cin + Cin^2 / 4 + Cin K / 4 (at reduction 4), aggregation adds K Cin Cout k^2 / groups.

Every sample of a batch has its own kernel. Aggregation is one matrix product for the batch, (N, K) @ (K, kernel size).
The convolution then takes the form that measured fastest, forward and backward, on the layers of MobileNetV2 and the
type-B head:

- batch 1: a plain convolution;
- 1x1 kernels: a batched matrix product, or for large layers on a CPU one convolution per sample;
- other kernels: one convolution with N * groups groups over the channels of all samples;
- other kernels in channels_last memory on a CPU: one convolution per sample, because joining the channels of all
  samples would reorder every pixel in memory.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose.models.depthwise import Pair, conv2d

AttentionKind = Literal["softmax", "sigmoid"]

CHUNK_BYTES = 5 << 19
"""Size of the 1x1 kernels that are aggregated at a time at inference; 2.5 MB stay in the core's cache until used."""

CONV_WORK = 12_000_000
"""Multiply-adds per sample from which a 1x1 convolution is faster than the batched matrix product on a CPU."""


class KernelAttention(nn.Module):
    """Attention over K kernels: average pooling, FC, ReLU, FC, softmax (paper, section 3.2 and Figure 3).

    Args:
        channels: input channels.
        num_kernels: K.
        reduction: ratio of input channels to hidden units; there is at least one hidden unit.
        temperature: tau of the softmax (section 4.2); a larger tau gives more uniform weights.
        kind: ``softmax`` (the paper) or ``sigmoid`` (CondConv: independent weights, no temperature).
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
        # Saved in the state dict, because the weights are trained for one temperature.
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, C, H, W) to kernel weights (N, K)."""
        # A sum instead of a mean: its gradient is an expanded view, that of a mean is a new (N, C, H, W) tensor.
        # fp16 could overflow and is summed to fp32. bf16 has the range: PyTorch accumulates it in fp32 and rounds once,
        # and dtype=torch.float32 would first copy the input to fp32.
        total = x.sum((2, 3), dtype=torch.float32 if x.dtype == torch.float16 else None)
        pixels = int(x.shape[2]) * int(x.shape[3])  # plain ints under tracing, too, where sizes are tensors
        if x.dtype == torch.float16:
            total, pixels = (total / pixels).to(x.dtype), 1
        # For one sample the time is operator overhead: the division by the pixels is the product's alpha, and calling
        # `fc1` and `fc2` as modules would take nearly twice as long.
        hidden = torch.addmm(self.fc1.bias, total, self.fc1.weight.t(), alpha=1 / pixels).relu_()
        logits = torch.addmm(self.fc2.bias, hidden, self.fc2.weight.t())
        return logits.sigmoid() if self.kind == "sigmoid" else (logits / self.temperature).softmax(1)


class DynamicConv2d(nn.Module):
    """Dynamic convolution with the interface of `torch.nn.Conv2d`: K kernels are aggregated for each sample.

    Args:
        in_channels: input channels.
        out_channels: output channels.
        kernel_size: side, or (height, width).
        stride: of the convolution.
        padding: zeros added on every side.
        dilation: spacing of the kernel's taps.
        groups: must divide both channel numbers.
        bias: also aggregate K biases; redundant before a batch norm.
        num_kernels: K.
        reduction: ratio of input channels to the attention's hidden units.
        temperature: tau of the softmax; changed by `set_temperature`.
        attention: ``softmax`` or ``sigmoid``, see `KernelAttention`.

    Raises:
        ValueError: an argument is out of range, or ``groups`` does not divide the channels.
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
            x: input features.
            shift: (out_channels,) bias added as it is, without aggregation: the shift of a fused batch norm.
        """
        attention = self.attention(x)
        # An empty batch needs one kernel for the shape of its output; the sum over no samples gives it weights of 0.
        weights = attention if len(x) else attention.sum(0, keepdim=True)
        bias = None if self.bias is None else _aggregate(weights, self.bias)
        if shift is not None:
            bias = shift if bias is None else bias + shift
        if len(x) <= 1:
            bias = None if bias is None else bias.view(-1)
            return functional.conv2d(
                x, _aggregate(weights, self.weight)[0], bias, self.stride, self.padding, self.dilation, self.groups
            )
        if self.is_pointwise:
            y = self._pointwise(x, attention)
        elif x.device.type == "cpu" and _is_channels_last(x):
            y = self._conv_per_sample(x, _aggregate(attention, self.weight))
        else:
            y = self._grouped_conv(x, _aggregate(attention, self.weight))
        return y if bias is None else y.add_(bias[..., None, None])

    @property
    def is_pointwise(self) -> bool:
        """Whether this is a 1x1 convolution that a matrix product per pixel can compute: no padding, no groups."""
        return self.kernel_size == (1, 1) and self.padding == (0, 0) and self.groups == 1

    def _pointwise(self, x: Tensor, attention: Tensor) -> Tensor:
        pointwise = _pointwise_matmul
        if _is_channels_last(x):
            pointwise = _pointwise_matmul_nhwc
        elif _conv_is_faster(x, self.out_channels, self.stride):
            pointwise = _pointwise_conv
        x = x[:, :, :: self.stride[0], :: self.stride[1]]
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return pointwise(x, _aggregate(attention, self.weight))
        chunk_size = max(1, CHUNK_BYTES // (self.weight[0].numel() * x.element_size()))
        chunks = zip(torch.split(x, chunk_size), torch.split(attention, chunk_size), strict=True)
        outputs = [pointwise(chunk, _aggregate(weights, self.weight)) for chunk, weights in chunks]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _conv_per_sample(self, x: Tensor, kernels: Tensor) -> Tensor:
        samples = zip(x.split(1), kernels.unbind(), strict=True)
        options = (self.stride, self.padding, self.dilation, self.groups)
        return torch.cat([conv2d(sample, kernel, *options) for sample, kernel in samples])

    def _grouped_conv(self, x: Tensor, kernels: Tensor) -> Tensor:
        joined = x.reshape(1, -1, *x.shape[2:])
        groups = len(x) * self.groups
        y = conv2d(joined, kernels.flatten(0, 1), self.stride, self.padding, self.dilation, groups)
        return y.view(len(x), self.out_channels, *y.shape[2:])

    def extra_repr(self) -> str:
        """Return the arguments that `print` shows."""
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
                f"DynamicConv2d: expected channels divisible by groups, got {self.in_channels} -> "
                f"{self.out_channels} in {self.groups} groups"
            )


def set_temperature(module: nn.Module, temperature: float) -> None:
    """Set the softmax temperature of every dynamic convolution in ``module``, in place; a static model is unchanged.

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


def _aggregate(attention: Tensor, bank: Tensor) -> Tensor:
    """Return the weighted sums (N, ...) of K tensors (K, ...) with weights (N, K)."""
    return (attention @ bank.flatten(1)).view(len(attention), *bank.shape[1:])


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _conv_is_faster(x: Tensor, out_channels: int, stride: Pair) -> bool:
    work = x[0].numel() * out_channels // (stride[0] * stride[1])
    return x.device.type == "cpu" and work >= CONV_WORK


def _pointwise_matmul(x: Tensor, kernels: Tensor) -> Tensor:
    return torch.bmm(kernels.flatten(2), x.flatten(2)).view(len(x), -1, *x.shape[2:])


def _pointwise_matmul_nhwc(x: Tensor, kernels: Tensor) -> Tensor:
    """Do the same for inputs and outputs in channels_last memory."""
    pixels = x.permute(0, 2, 3, 1)
    product = torch.bmm(pixels.flatten(1, 2), kernels.flatten(2).transpose(1, 2))
    return product.view(*pixels.shape[:3], -1).permute(0, 3, 1, 2)


def _pointwise_conv(x: Tensor, kernels: Tensor) -> Tensor:
    # Dilation has no effect on a 1x1 kernel, but makes PyTorch call oneDNN. On one thread it would otherwise call a
    # general matrix product, at half the speed on AVX-512 CPUs that are not Intel's.
    samples = zip(x.unbind(), kernels.unbind(), strict=True)
    return torch.cat([functional.conv2d(sample[None], kernel, dilation=2) for sample, kernel in samples])
