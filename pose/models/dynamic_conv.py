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
- 1x1 kernels on maps of at most K pixels: one product with the K kernels, without a kernel for each sample;
- other 1x1 kernels: a batched matrix product (`pose.models.pointwise`), or for large layers on a CPU one convolution
  per sample;
- other kernels: one convolution with N * groups groups over the channels of all samples;
- other kernels in channels_last memory on a CPU: one convolution per sample, because joining the channels of all
  samples would reorder every pixel in memory. That is faster for small maps of a depthwise convolution only.
"""

import torch
from torch import Tensor
from torch.nn import functional

from pose.models.depthwise import Pair, conv2d, is_channels_last
from pose.models.dynamic_layers import DynamicConvNd
from pose.models.kernel_attention import aggregate, is_exporting, is_proxy
from pose.models.pointwise import aggregated_product, mix_products, mixing_is_faster

CONV_WORK = 12_000_000
"""Multiply-adds per sample from which a 1x1 convolution is faster than the batched matrix product on a CPU."""

REORDER_SIZE = 10_000
"""Elements of a sample up to which a depthwise layer in channels_last memory is faster with all samples reordered."""


class DynamicConv2d(DynamicConvNd):
    """Dynamic convolution with the interface of `torch.nn.Conv2d`: K kernels are aggregated for each sample.

    Args:
        in_channels: input channels.
        out_channels: output channels.
        kernel_size: side, or (height, width).
        stride: of the convolution.
        padding: zeros added on every side, or ``"same"`` or ``"valid"``.
        dilation: spacing of the kernel's taps.
        groups: must divide both channel numbers.
        bias: also aggregate K biases; redundant before a batch norm.
        padding_mode: ``zeros``, ``reflect``, ``replicate`` or ``circular``.
        device: of the parameters.
        dtype: of the parameters.
        num_kernels: K.
        reduction: ratio of input channels to the softmax attention's hidden units.
        temperature: tau of the softmax; changed by `pose.models.kernel_attention.set_temperature`.
        attention: ``softmax`` or ``sigmoid``, see `pose.models.kernel_attention.KernelAttention`.

    Raises:
        ValueError: an argument is out of range, or ``groups`` does not divide the channels.
    """

    axes, sample_dims, function = 2, 3, staticmethod(functional.conv2d)
    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W'), or one sample without a batch axis.

        Args:
            x: input features.
            shift: (out_channels,) bias added as it is, without aggregation: the shift of a fused batch norm.
        """
        # An exported graph has one form for all batch sizes.
        if is_proxy(x) or is_exporting() or x.dim() != 4:
            return super().forward(x, shift)
        attention = self.attention(x)
        if self.pad is not None:
            x = self.pad_input(x)
        # An empty batch needs one kernel for the shape of its output; the sum over no samples gives it weights of 0.
        weights = attention if len(x) else attention.sum(0, keepdim=True)
        bias = self._aggregate_bias(weights, shift)
        if len(x) <= 1:
            bias = None if bias is None else bias.view(-1)
            return functional.conv2d(
                x, aggregate(weights, self.weight)[0], bias, self.stride, self.padding, self.dilation, self.groups
            )
        if self.is_pointwise:
            y = self._pointwise(x, attention)
        elif x.device.type == "cpu" and is_channels_last(x):
            if self.groups == self.in_channels and x[0].numel() <= REORDER_SIZE:
                y = self._grouped_conv(x.contiguous(), aggregate(attention, self.weight))
                y = y.contiguous(memory_format=torch.channels_last)
            else:
                y = self._conv_per_sample(x, aggregate(attention, self.weight))
        else:
            y = self._grouped_conv(x, aggregate(attention, self.weight))
        return y if bias is None else y.add_(bias[..., None, None])

    @property
    def is_pointwise(self) -> bool:
        """Whether this is a 1x1 convolution that a matrix product per pixel can compute: no padding, no groups."""
        return self.kernel_size == (1, 1) and self.padding == (0, 0) and self.groups == 1

    def _conv(self, x: Tensor, kernel: Tensor, groups: int) -> Tensor:
        return conv2d(x, kernel, self.stride, self.padding, self.dilation, groups * self.groups)

    def _pointwise(self, x: Tensor, attention: Tensor) -> Tensor:
        conv_is_faster = _conv_is_faster(x, self.out_channels, self.stride)
        in_nhwc = is_channels_last(x)
        x = x[:, :, :: self.stride[0], :: self.stride[1]]
        rows, bank = x.flatten(2).transpose(1, 2), self.weight.flatten(2)
        if mixing_is_faster(len(x), rows.shape[1], self.num_kernels):
            y = _to_map(mix_products(rows, attention, bank), x)
            return y.contiguous(memory_format=torch.channels_last if in_nhwc else torch.contiguous_format)
        if conv_is_faster and not in_nhwc:
            return _pointwise_conv(x, aggregate(attention, self.weight))
        return _to_map(aggregated_product(rows, attention, bank, transposed=not in_nhwc), x)

    def _conv_per_sample(self, x: Tensor, kernels: Tensor) -> Tensor:
        samples = zip(x.split(1), kernels.unbind(), strict=True)
        return torch.cat([self._conv(sample, kernel, 1) for sample, kernel in samples])


def _conv_is_faster(x: Tensor, out_channels: int, stride: Pair) -> bool:
    work = x[0].numel() * out_channels // (stride[0] * stride[1])
    return x.device.type == "cpu" and work >= CONV_WORK


def _to_map(rows: Tensor, x: Tensor) -> Tensor:
    """Return the rows (N, P, channels) as a map of the size of ``x``."""
    maps: Tensor = rows.transpose(1, 2).unflatten(2, x.shape[2:])
    return maps


def _pointwise_conv(x: Tensor, kernels: Tensor) -> Tensor:
    # Dilation has no effect on a 1x1 kernel, but makes PyTorch call oneDNN. On one thread it would otherwise call a
    # general matrix product, at half the speed on AVX-512 CPUs that are not Intel's.
    samples = zip(x.unbind(), kernels.unbind(), strict=True)
    return torch.cat([functional.conv2d(sample[None], kernel, dilation=2) for sample, kernel in samples])
