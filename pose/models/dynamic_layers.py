"""Dynamic layers besides `DynamicConv2d`: 1-D, 3-D and transposed convolutions, and the linear layer.

Source: *Dynamic Convolution: Attention over Convolution Kernels* (Chen et al., CVPR 2020), sections 3.1 (the dynamic
perceptron, which the linear layer is) and 3.2. All aggregate K kernels for each sample, see `pose.models.dynamic_conv`.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from pose.models.kernel_attention import (
    AttentionKind,
    DynamicLayer,
    SizeArgument,
    aggregate,
    is_exporting,
    to_sizes,
    to_whole,
)
from pose.models.pointwise import aggregated_product, mix_products, mixing_is_faster

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class DynamicConvNd(DynamicLayer):
    """Base class of the dynamic convolutions: the arguments of `torch.nn.Conv2d` and its siblings, and their checks.

    Attributes:
        padding: added on both sides of each axis, zero where the convolution is preceded by `torch.nn.functional.pad`.
        pad: (before, after) of each axis, last axis first, for `torch.nn.functional.pad`; None if it is not needed:
            padding is symmetric and of zeros.
    """

    axes: int
    """Spatial axes."""
    function: Callable[..., Tensor]
    """The convolution of `torch.nn.functional`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: SizeArgument,
        stride: SizeArgument = 1,
        padding: SizeArgument | str = 0,
        dilation: SizeArgument = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        num_kernels: int = 4,
        reduction: int = 4,
        temperature: float = 30.0,
        attention: AttentionKind = "softmax",
    ) -> None:
        name = type(self).__name__
        counts = {"in_channels": in_channels, "out_channels": out_channels, "groups": groups}
        in_channels, out_channels, groups = (to_whole(value, f"{name}: {key}") for key, value in counts.items())
        sizes = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
        kernel, strides, dilations = (to_sizes(value, self.axes, f"{name}: {key}") for key, value in sizes.items())
        padding, pad = self._padding(padding, padding_mode, kernel, strides, dilations)
        if min(in_channels, out_channels, groups, *kernel, *strides, *dilations) < 1 or min(padding) < 0:
            raise ValueError(
                f"{name}: expected positive sizes (padding may be 0), got {in_channels}, {out_channels}, "
                f"kernel_size={kernel}, stride={strides}, padding={padding}, dilation={dilations}, groups={groups}"
            )
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: expected channels divisible by groups, got {in_channels} -> {out_channels} in {groups} groups"
            )
        shape = self._kernel_shape(in_channels, out_channels, groups, kernel)
        super().__init__(
            in_channels, out_channels, shape, bias, num_kernels, reduction, temperature, attention, device, dtype
        )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = kernel, strides, dilations
        self.padding, self.padding_mode, self.pad = padding, padding_mode, pad

    @staticmethod
    def _kernel_shape(in_channels: int, out_channels: int, groups: int, kernel: tuple[int, ...]) -> tuple[int, ...]:
        return (out_channels, in_channels // groups, *kernel)

    def _padding(
        self,
        padding: SizeArgument | str,
        mode: str,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
        """Return the padding of the convolution, and what is padded before it."""
        name = type(self).__name__
        if mode not in PADDING_MODES:
            raise ValueError(f"{name}: expected padding_mode of {', '.join(PADDING_MODES)}, got {mode!r}")
        if isinstance(padding, str):
            if padding not in ("same", "valid") or (padding == "same" and set(stride) != {1}):
                raise ValueError(
                    f"{name}: expected padding as numbers, 'valid', or 'same' with stride 1, got {padding!r}"
                )
            total = [d * (k - 1) * (padding == "same") for k, d in zip(kernel, dilation, strict=True)]
            sides = [(size // 2, size - size // 2) for size in total]
        else:
            sides = [(size, size) for size in to_sizes(padding, self.axes, f"{name}: padding")]
        if mode == "zeros" and all(before == after for before, after in sides):
            return tuple(before for before, _ in sides), None
        return (0,) * self.axes, tuple(size for pair in reversed(sides) for size in pair)

    def pad_input(self, x: Tensor) -> Tensor:
        """Pad a batch as far as the convolution itself does not: asymmetrically, or not with zeros."""
        if self.pad is None:
            return x
        return functional.pad(x, self.pad, "constant" if self.padding_mode == "zeros" else self.padding_mode)

    def _forward(self, x: Tensor, shift: Tensor | None) -> Tensor:
        attention = self.attention(x)
        if not is_exporting() and not x.shape[0]:  # one kernel of zeros gives the output its shape
            return self._conv(self.pad_input(x), aggregate(attention.sum(0, keepdim=True), self.weight)[0], 1)
        y = self._grouped_conv(self.pad_input(x), aggregate(attention, self.weight))
        bias = self._aggregate_bias(attention, shift)
        return y if bias is None else y.add_(bias.view(*bias.shape, *(1,) * self.axes))

    def _conv(self, x: Tensor, kernel: Tensor, groups: int) -> Tensor:
        """Convolve with one kernel, ``groups`` times the layer's own groups, without bias."""
        y: Tensor = self.function(x, kernel, None, self.stride, self.padding, self.dilation, groups * self.groups)
        return y

    def _grouped_conv(self, x: Tensor, kernels: Tensor) -> Tensor:
        """Convolve N samples with N kernels: one convolution whose groups are those of all samples."""
        joined = x.reshape(1, -1, *x.shape[2:])
        y = self._conv(joined, kernels.flatten(0, 1), x.shape[0])
        return y.view(x.shape[0], self.out_channels, *y.shape[2:])

    def extra_repr(self) -> str:
        """Return the arguments that `print` shows."""
        mode = "" if self.padding_mode == "zeros" else f", padding_mode={self.padding_mode}"
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding if self.pad is None else self.pad}, dilation={self.dilation}, "
            f"groups={self.groups}, bias={self.bias is not None}{mode}, num_kernels={self.num_kernels}"
        )


class DynamicConv1d(DynamicConvNd):
    """Dynamic convolution over sequences (N, C, L), with the interface of `torch.nn.Conv1d`; see `DynamicConvNd`."""

    axes, sample_dims, function = 1, 2, staticmethod(functional.conv1d)


class DynamicConv3d(DynamicConvNd):
    """Dynamic convolution over (N, C, D, H, W), with the interface of `torch.nn.Conv3d`: see `DynamicConvNd`."""

    axes, sample_dims, function = 3, 4, staticmethod(functional.conv3d)


class DynamicConvTranspose2d(DynamicConvNd):
    """Dynamic transposed convolution with the interface of `torch.nn.ConvTranspose2d`.

    Args:
        in_channels: input channels.
        out_channels: output channels.
        kernel_size: side, or (height, width).
        stride: step of the output.
        padding: taken away from every side of the output.
        output_padding: added to one side of the output.
        groups: must divide both channel numbers.
        bias: also aggregate K biases.
        dilation: spacing of the kernel's taps.
        padding_mode: ``zeros``, the only one, as in PyTorch.
        device: of the parameters.
        dtype: of the parameters.
        num_kernels: K.
        reduction: ratio of input channels to the softmax attention's hidden units.
        temperature: tau of the softmax.
        attention: ``softmax`` or ``sigmoid``, see `KernelAttention`.

    Raises:
        ValueError: an argument is out of range.
    """

    axes, sample_dims = 2, 3
    fan = "fan_in"  # as torch.nn.init names it for kernels whose first axis is the input

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: SizeArgument,
        stride: SizeArgument = 1,
        padding: SizeArgument | str = 0,
        output_padding: SizeArgument = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: SizeArgument = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        num_kernels: int = 4,
        reduction: int = 4,
        temperature: float = 30.0,
        attention: AttentionKind = "softmax",
    ) -> None:
        if padding_mode != "zeros" or isinstance(padding, str):
            raise ValueError(
                f"DynamicConvTranspose2d: expected padding as numbers and padding_mode 'zeros', got {padding!r} and "
                f"{padding_mode!r}"
            )
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device,
            dtype, num_kernels=num_kernels, reduction=reduction, temperature=temperature, attention=attention,
        )  # fmt: skip
        self.output_padding = to_sizes(output_padding, 2, "DynamicConvTranspose2d: output_padding")

    @staticmethod
    def _kernel_shape(in_channels: int, out_channels: int, groups: int, kernel: tuple[int, ...]) -> tuple[int, ...]:
        return (in_channels, out_channels // groups, *kernel)

    def _conv(self, x: Tensor, kernel: Tensor, groups: int) -> Tensor:
        options = (self.stride, self.padding, self.output_padding, groups * self.groups, self.dilation)
        return functional.conv_transpose2d(x, kernel, None, *options)

    def extra_repr(self) -> str:
        """Return the arguments that `print` shows."""
        return f"{super().extra_repr()}, output_padding={self.output_padding}"


class DynamicLinear(DynamicLayer):
    """Dynamic linear layer (the dynamic perceptron of section 3.1) with the interface of `torch.nn.Linear`.

    The attention is computed from the input itself, or, for inputs with more axes, from its mean over the axes between
    the batch and the features: each sample of the batch has one matrix.

    Args:
        in_features: size of each input.
        out_features: size of each output.
        bias: also aggregate K biases.
        device: of the parameters.
        dtype: of the parameters.
        num_kernels: K.
        reduction: ratio of input features to the softmax attention's hidden units.
        temperature: tau of the softmax.
        attention: ``softmax`` or ``sigmoid``, see `KernelAttention`.

    Raises:
        ValueError: an argument is out of range.
    """

    sample_dims = 1

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        num_kernels: int = 4,
        reduction: int = 4,
        temperature: float = 30.0,
        attention: AttentionKind = "softmax",
    ) -> None:
        in_features = to_whole(in_features, "DynamicLinear: in_features")
        out_features = to_whole(out_features, "DynamicLinear: out_features")
        if min(in_features, out_features) < 1:
            raise ValueError(f"DynamicLinear: expected positive sizes, got {in_features} and {out_features}")
        super().__init__(
            in_features, out_features, (out_features, in_features), bias, num_kernels, reduction, temperature,
            attention, device, dtype,
        )  # fmt: skip
        self.in_features, self.out_features = in_features, out_features

    def _forward(self, x: Tensor, shift: Tensor | None) -> Tensor:
        attention = self.attention(x.movedim(-1, 1))
        rows = x[:, None] if x.dim() == 2 else x.flatten(1, -2)
        if not is_exporting() and mixing_is_faster(len(rows), rows.shape[1], self.num_kernels):
            y = mix_products(rows, attention, self.weight)
        else:
            y = aggregated_product(rows, attention, self.weight)
        bias = self._aggregate_bias(attention, shift)
        if bias is not None:
            y.add_(bias.view(-1, 1, self.out_features))
        return y.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Return the arguments that `print` shows."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, num_kernels={self.num_kernels}"
