"""Building blocks of the MobileNets, the ResNets and the type-B head.

A block is static or dynamic depending on its ``conv_layer``: `torch.nn.Conv2d`, or `DynamicConv2d` with bound options.
Sources: *MobileNetV2* (Sandler et al., CVPR 2018), Table 1; *Searching for MobileNetV3* (Howard et al., ICCV 2019),
section 5, for squeeze-and-excitation.
"""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from pose.models.activations import ReLU6
from pose.models.depthwise import Conv2d

ConvLayer = Callable[..., nn.Module]
"""Called as ``conv_layer(in_channels, out_channels, kernel_size, stride=, padding=, groups=, bias=False)``."""

ConvLayers = ConvLayer | Sequence[ConvLayer]
"""One type for all convolutions of a block, or one per convolution in order (C1, C2, C3 of the paper's Table 5)."""

NormLayer = Callable[[int], nn.BatchNorm2d]
"""Called as ``norm_layer(channels)``."""

Activation = Callable[..., nn.Module]
"""Called as ``activation(inplace=True)``; `torch.nn.Identity` for no activation."""


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round ``channels`` to the nearest multiple of ``divisor``, or up if rounding down would lose more than 10%."""
    nearest = max(divisor, int(channels / divisor + 0.5) * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


def per_conv_layers(conv_layer: ConvLayers, positions: int) -> Sequence[ConvLayer]:
    """Return one layer type for each of the ``positions`` convolutions of a block.

    Raises:
        ValueError: a sequence has another length.
    """
    if callable(conv_layer):
        return [conv_layer] * positions
    if len(conv_layer) != positions:
        raise ValueError(
            f"conv_layer: expected one layer type, or {positions} (one per convolution), got {len(conv_layer)}"
        )
    return conv_layer


class ConvBNAct(nn.Module):
    """Convolution without bias, batch norm and activation; padded to keep the size at stride 1.

    Args:
        in_channels: input channels.
        out_channels: output channels.
        kernel_size: side of the kernel, odd.
        stride: of the convolution.
        groups: of the convolution.
        activation: activation type; `torch.nn.Identity` for none.
        conv_layer: convolution type, static or dynamic.
        norm_layer: batch norm type.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: Activation = ReLU6,
        conv_layer: ConvLayer = Conv2d,
        norm_layer: NormLayer = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.conv = conv_layer(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, groups=groups, bias=False
        )
        if isinstance(self.conv, nn.Conv2d):
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")
        self.bn = norm_layer(out_channels)
        self.act = activation(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation: scale each channel by a factor in 0..1 computed from all channel means; always static.

    The bottleneck has a quarter of the channels. torchvision's equivalent is not used: it takes a second to import.

    Args:
        channels: input and output channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = make_divisible(channels / 4)
        self.fc1 = _pointwise(channels, hidden)
        self.fc2 = _pointwise(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, channels, H, W)."""
        hidden = functional.relu(self.fc1(functional.adaptive_avg_pool2d(x, 1)))
        return x * functional.hardsigmoid(self.fc2(hidden))


class InvertedResidual(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise convolution, linear 1x1 projection; skip connection if shapes agree.

    Args:
        in_channels: input channels.
        hidden_channels: channels of the depthwise convolution; no expansion if equal to ``in_channels``.
        out_channels: output channels.
        kernel_size: side of the depthwise kernel.
        stride: of the depthwise convolution.
        conv_layer: convolution type, static or dynamic; one for all three, or one each for expansion, depthwise and
            projection.
        activation: activation type after the expansion and the depthwise convolution.
        norm_layer: batch norm type after each convolution.
        squeeze: add squeeze-and-excitation before the projection.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        conv_layer: ConvLayers = Conv2d,
        activation: Activation = ReLU6,
        norm_layer: NormLayer = nn.BatchNorm2d,
        squeeze: bool = False,
    ) -> None:
        super().__init__()
        expand, depthwise, project = per_conv_layers(conv_layer, 3)
        layer = partial(ConvBNAct, norm_layer=norm_layer)
        self.expand = (
            nn.Identity()
            if hidden_channels == in_channels
            else layer(in_channels, hidden_channels, activation=activation, conv_layer=expand)
        )
        self.depthwise = layer(
            hidden_channels,
            hidden_channels,
            kernel_size,
            stride,
            groups=hidden_channels,
            activation=activation,
            conv_layer=depthwise,
        )
        self.squeeze = SqueezeExcitation(hidden_channels) if squeeze else nn.Identity()
        self.project = layer(hidden_channels, out_channels, activation=nn.Identity, conv_layer=project)
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        y: Tensor = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + y if self.adds_input else y


def _pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 1)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
