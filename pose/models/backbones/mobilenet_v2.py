"""MobileNetV2 to stride 32, static or dynamic (Sandler et al., CVPR 2018, Table 2).

The static model is torchvision's ``mobilenet_v2(width_mult).features``: same layers, and tensors of the same shapes in
the same order under other names.
"""

from torch import Tensor, nn

from pose.models.backbones.blocks import ConvBNAct, ConvLayer, ConvLayers, InvertedResidual, make_divisible
from pose.models.depthwise import Conv2d

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels, blocks, and the stride of the first block."""


class MobileNetV2(nn.Module):
    """Features with 1280 channels (more above width 1) at stride 32.

    Args:
        width: multiplies the channels, except those of the last convolution below 1.
        depth: multiplies the blocks of each stage, of which one always remains (paper, Figure 6).
        conv_layer: the convolutions of the blocks, or each of their three; the stem is always static.
        last_conv_layer: the last 1x1 convolution, which the paper's counts say is static too.
    """

    def __init__(
        self,
        width: float = 1.0,
        depth: float = 1.0,
        conv_layer: ConvLayers = Conv2d,
        last_conv_layer: ConvLayer = Conv2d,
    ) -> None:
        super().__init__()
        channels = make_divisible(32 * width)
        self.stem = ConvBNAct(3, channels, 3, stride=2)
        self.blocks = nn.Sequential()
        for expansion, stage_channels, stage_blocks, first_stride in STAGES:
            for block in range(max(1, round(stage_blocks * depth))):
                stride = first_stride if block == 0 else 1
                out_channels = make_divisible(stage_channels * width)
                self.blocks.append(
                    InvertedResidual(channels, channels * expansion, out_channels, stride=stride, conv_layer=conv_layer)
                )
                channels = out_channels
        self.out_channels = make_divisible(1280 * max(1.0, width))
        self.last = ConvBNAct(channels, self.out_channels, conv_layer=last_conv_layer)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, out_channels, H / 32, W / 32)."""
        features: Tensor = self.last(self.blocks(self.stem(images)))
        return features
