"""Pose heads: backbone features at stride 32 to one map per keypoint at stride 4."""

from torch import nn

from pose.models.backbones.blocks import ConvLayer, InvertedResidual, make_divisible
from pose.models.depthwise import Conv2d


class TypeAHead(nn.Sequential):
    """Type-A head: three transposed convolutions and a 1x1 convolution (*Simple Baselines*, Xiao et al., ECCV 2018).

    Maps features (N, in_channels, H, W) to (N, num_keypoints, 8 H, 8 W).

    Args:
        in_channels: channels of the features.
        num_keypoints: number of output maps.
        width: multiplies the 256 channels of the transposed convolutions.
    """

    def __init__(self, in_channels: int, num_keypoints: int, width: float = 1.0) -> None:
        channels = make_divisible(256 * width)
        super().__init__()
        for inputs in (in_channels, channels, channels):
            self.append(nn.ConvTranspose2d(inputs, channels, 4, stride=2, padding=1, bias=False))
            self.append(nn.BatchNorm2d(channels))
            self.append(nn.ReLU(inplace=True))
        self.append(nn.Conv2d(channels, num_keypoints, 1))
        for layer in self:
            if isinstance(layer, nn.ConvTranspose2d | nn.Conv2d):
                _init_small(layer)


class TypeBHead(nn.Sequential):
    """Type-B head: bilinear upsampling, inverted residuals with 5x5 kernels and a 1x1 convolution (paper, Table 9).

    Maps features (N, in_channels, H, W) to (N, num_keypoints, 8 H, 8 W). The first block does not expand its input
    channels: with expansion, as the table literally reads, the head would have 70% more weights than the paper counts.

    Args:
        in_channels: channels of the features.
        num_keypoints: number of output maps.
        width: multiplies the channels of the blocks.
        conv_layer: convolution type of the blocks, static or dynamic; the final 1x1 convolution is always static.
    """

    def __init__(
        self, in_channels: int, num_keypoints: int, width: float = 1.0, conv_layer: ConvLayer = Conv2d
    ) -> None:
        wide, wide_hidden, narrow, narrow_hidden = (make_divisible(c * width) for c in (256, 768, 128, 384))

        def block(inputs: int, hidden: int, outputs: int) -> InvertedResidual:
            return InvertedResidual(inputs, hidden, outputs, kernel_size=5, conv_layer=conv_layer)

        final = nn.Conv2d(narrow, num_keypoints, 1)
        _init_small(final)
        super().__init__(
            _upsample_2x(),
            block(in_channels, in_channels, wide),
            block(wide, wide_hidden, wide),
            _upsample_2x(),
            block(wide, wide_hidden, narrow),
            _upsample_2x(),
            block(narrow, narrow_hidden, narrow),
            final,
        )


def _upsample_2x() -> nn.Upsample:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)


def _init_small(conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
    nn.init.normal_(conv.weight, std=0.001)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
