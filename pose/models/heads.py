"""From features at stride 32 to one map a keypoint at stride 4."""

from torch import nn

from pose.models.backbones.blocks import ConvLayer, InvertedResidual, make_divisible
from pose.models.depthwise import Conv2d


class TypeAHead(nn.Sequential):
    """Three transposed convolutions, then 1x1 (*Simple Baselines*, Xiao et al. 2018; the paper's type A).

    Args:
        in_channels: of the features.
        num_keypoints: maps to make.
        width: multiplies the 256 channels.
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
                _start_small(layer)


class TypeBHead(nn.Sequential):
    """Bilinear upsampling and 5x5 inverted residuals, then 1x1 (the paper's type B, Table 9).

    The first block filters all input channels without expanding them: expanded, as the table literally reads, the
    head would have 70% more weights than the paper counts.

    Args:
        in_channels: of the features.
        num_keypoints: maps to make.
        width: multiplies the channels of the blocks.
        conv_layer: the convolutions of the blocks; the final 1x1 is always static.
    """

    def __init__(
        self, in_channels: int, num_keypoints: int, width: float = 1.0, conv_layer: ConvLayer = Conv2d
    ) -> None:
        wide, wide_hidden, narrow, narrow_hidden = (make_divisible(c * width) for c in (256, 768, 128, 384))

        def block(inputs: int, hidden: int, outputs: int) -> InvertedResidual:
            return InvertedResidual(inputs, hidden, outputs, kernel_size=5, conv_layer=conv_layer)

        final = nn.Conv2d(narrow, num_keypoints, 1)
        _start_small(final)
        super().__init__(
            _double_size(),
            block(in_channels, in_channels, wide),
            block(wide, wide_hidden, wide),
            _double_size(),
            block(wide, wide_hidden, narrow),
            _double_size(),
            block(narrow, narrow_hidden, narrow),
            final,
        )


def _double_size() -> nn.Upsample:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)


def _start_small(conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
    nn.init.normal_(conv.weight, std=0.001)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
