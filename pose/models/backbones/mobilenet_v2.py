"""MobileNetV2, to stride 32 by default, static or dynamic (Sandler et al., CVPR 2018, Table 2).

The static model equals torchvision's ``mobilenet_v2(width_mult).features``: the same layers, and tensors of the same
shapes in the same order under other names.
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
"""Per stage: expansion ratio, output channels, number of blocks, stride of the first block."""

FIRST_STRIDED_STAGE = 1
"""Index of the first stage with a stride."""


class MobileNetV2(nn.Module):
    """MobileNetV2 backbone: features of 1280 channels (more for widths above 1), at stride 32 by default.

    Args:
        width: multiplies all channels; the last convolution keeps its 1280 for widths below 1.
        depth: multiplies the blocks per stage; each keeps at least one (dynamic convolution paper, Figure 6).
        conv_layer: convolution type of the blocks, one for all or one each for expansion, depthwise and projection; the
            stem is always static.
        last_conv_layer: type of the last 1x1 convolution; static by default, as that paper's counts imply.
        first_dynamic_block: number of the first block, from 1, whose convolutions are of ``conv_layer``; those of the
            blocks before it are static.
        first_strides: strides of the stem and of the first strided stage. (1, 1) gives stride 8, for images of 32x32.
            The tensors are the same for all strides.
    """

    def __init__(
        self,
        width: float = 1.0,
        depth: float = 1.0,
        conv_layer: ConvLayers = Conv2d,
        last_conv_layer: ConvLayer = Conv2d,
        first_dynamic_block: int = 1,
        first_strides: tuple[int, int] = (2, 2),
    ) -> None:
        super().__init__()
        channels = make_divisible(32 * width)
        self.stem = ConvBNAct(3, channels, 3, stride=first_strides[0])
        self.blocks = nn.Sequential()
        for stage, (expansion, stage_channels, stage_blocks, first_stride) in enumerate(STAGES):
            if stage == FIRST_STRIDED_STAGE:
                first_stride = first_strides[1]
            for block in range(max(1, round(stage_blocks * depth))):
                stride = first_stride if block == 0 else 1
                out_channels = make_divisible(stage_channels * width)
                block_conv = conv_layer if len(self.blocks) + 1 >= first_dynamic_block else Conv2d
                self.blocks.append(
                    InvertedResidual(channels, channels * expansion, out_channels, stride=stride, conv_layer=block_conv)
                )
                channels = out_channels
        self.out_channels = make_divisible(1280 * max(1.0, width))
        self.last = ConvBNAct(channels, self.out_channels, conv_layer=last_conv_layer)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images (N, 3, H, W) to features (N, out_channels, H / stride, W / stride)."""
        features: Tensor = self.last(self.blocks(self.stem(images)))
        return features
