"""The two blocks that MobileNetV2 and the type-B head are made of.

What makes a net dynamic is the ``conv_layer`` it is given: `torch.nn.Conv2d`, or a `DynamicConv2d` with its options
bound. Source: *MobileNetV2* (Sandler et al., CVPR 2018), Table 1.
"""

from collections.abc import Callable

from torch import Tensor, nn

ConvLayer = Callable[..., nn.Module]
"""Called as ``conv_layer(in_channels, out_channels, kernel_size, stride=, padding=, groups=, bias=False)``."""


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Return the multiple of ``divisor`` nearest to ``channels``, or the next if that loses over a tenth."""
    nearest = max(divisor, int(channels / divisor + 0.5) * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


class ConvBNAct(nn.Module):
    """Convolution without bias that keeps the size (at stride 1), batch norm, and ReLU6 if ``act``.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: odd side of the kernel.
        stride: step of the kernel.
        groups: of the convolution.
        act: end with ReLU6.
        conv_layer: the convolution, static or dynamic.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: bool = True,
        conv_layer: ConvLayer = nn.Conv2d,
    ) -> None:
        super().__init__()
        self.conv = conv_layer(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, groups=groups, bias=False
        )
        if isinstance(self.conv, nn.Conv2d):
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU6(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel, project by 1x1 without activation; add the input where shapes agree.

    Args:
        in_channels: of the input.
        hidden_channels: of the depthwise convolution; there is no expansion where it equals ``in_channels``.
        out_channels: of the output.
        kernel_size: of the depthwise convolution.
        stride: of the depthwise convolution.
        conv_layer: all three convolutions, static or dynamic.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        conv_layer: ConvLayer = nn.Conv2d,
    ) -> None:
        super().__init__()
        self.expand = (
            nn.Identity()
            if hidden_channels == in_channels
            else ConvBNAct(in_channels, hidden_channels, conv_layer=conv_layer)
        )
        self.depthwise = ConvBNAct(
            hidden_channels, hidden_channels, kernel_size, stride, groups=hidden_channels, conv_layer=conv_layer
        )
        self.project = ConvBNAct(hidden_channels, out_channels, act=False, conv_layer=conv_layer)
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds_input else y
