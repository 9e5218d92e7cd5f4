"""ResNet-10 and ResNet-18 to stride 32, static or dynamic (*Deep Residual Learning*, He et al., CVPR 2016, Table 1).

The static model with two blocks per stage equals torchvision's ``resnet18`` without its ``fc``: the same layers, and
tensors of the same shapes in the same order under other names.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from pose.models.backbones.blocks import ConvBNAct, ConvLayer, ConvLayers, per_conv_layers
from pose.models.depthwise import Conv2d


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions; the shortcut is a 1x1 convolution where shapes differ.

    Args:
        in_channels: input channels.
        out_channels: output channels.
        stride: of the first convolution.
        conv_layer: type of the 3x3 convolutions, static or dynamic; one for both or one each.
        shortcut_conv_layer: type of the shortcut's convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        conv_layer: ConvLayers = Conv2d,
        shortcut_conv_layer: ConvLayer = Conv2d,
    ) -> None:
        super().__init__()
        first, second = per_conv_layers(conv_layer, 2)
        self.first = ConvBNAct(in_channels, out_channels, 3, stride, activation=nn.ReLU, conv_layer=first)
        self.second = ConvBNAct(out_channels, out_channels, 3, activation=nn.Identity, conv_layer=second)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else ConvBNAct(
                in_channels, out_channels, stride=stride, activation=nn.Identity, conv_layer=shortcut_conv_layer
            )
        )
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        y: Tensor = self.act(self.second(self.first(x)) + self.shortcut(x))
        return y


class ResNet(nn.Module):
    """ResNet backbone of basic blocks: features of 512 channels at stride 32.

    Args:
        stage_blocks: number of blocks in each of the four stages: 2 in ResNet-18, 1 in ResNet-10.
        conv_layer: convolution type of the blocks, one for all or one each for first and second; the stem is always
            static.
        shortcut_conv_layer: type of the 1x1 projection shortcuts; static by default, as the dynamic convolution
            paper's counts imply.
    """

    def __init__(
        self,
        stage_blocks: Sequence[int] = (2, 2, 2, 2),
        conv_layer: ConvLayers = Conv2d,
        shortcut_conv_layer: ConvLayer = Conv2d,
    ) -> None:
        super().__init__()
        channels = 64
        self.stem = ConvBNAct(3, channels, 7, stride=2, activation=nn.ReLU)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.blocks = nn.Sequential()
        for stage, (out_channels, blocks) in enumerate(zip((64, 128, 256, 512), stage_blocks, strict=True)):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                self.blocks.append(BasicBlock(channels, out_channels, stride, conv_layer, shortcut_conv_layer))
                channels = out_channels
        self.out_channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images (N, 3, H, W) to features (N, 512, H / 32, W / 32)."""
        features: Tensor = self.blocks(self.pool(self.stem(images)))
        return features
