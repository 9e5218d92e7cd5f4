"""MobileNetV3-Small to stride 32, static or dynamic (*Searching for MobileNetV3*, Howard et al., ICCV 2019, Table 2).

The static model without ``early_stride`` and ``last_squeeze`` equals torchvision's ``mobilenet_v3_small().features``:
the same layers, and tensors of the same shapes in the same order under other names.
"""

from functools import partial

from torch import Tensor, nn

from pose.models.backbones.blocks import ConvBNAct, ConvLayer, ConvLayers, InvertedResidual, SqueezeExcitation
from pose.models.depthwise import Conv2d

BLOCKS = (
    (3, 16, 16, True, nn.ReLU),
    (3, 72, 24, False, nn.ReLU),
    (3, 88, 24, False, nn.ReLU),
    (5, 96, 40, True, nn.Hardswish),
    (5, 240, 40, True, nn.Hardswish),
    (5, 240, 40, True, nn.Hardswish),
    (5, 120, 48, True, nn.Hardswish),
    (5, 144, 48, True, nn.Hardswish),
    (5, 288, 96, True, nn.Hardswish),
    (5, 576, 96, True, nn.Hardswish),
    (5, 576, 96, True, nn.Hardswish),
)
"""Per block: kernel size, hidden channels, output channels, squeeze-and-excitation, activation."""

STRIDES = (2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1)
"""Per block, of the published model."""
EARLY_STRIDES = (2, 2, 1, 1, 2, 1, 1, 1, 2, 1, 1)
"""Per block, of the early variant: stride 16 is reached one block later."""


class MobileNetV3Small(nn.Module):
    """MobileNetV3-Small backbone: features of 576 channels at stride 32.

    The defaults are the variant of the dynamic convolution paper, as its parameter and multiply-add counts imply.

    Args:
        early_stride: the early variant, which reaches stride 16 one block later than the final one. Both have the same
            tensors, so weights load into either, but are useful only in the variant they were trained in.
        squeeze: squeeze-and-excitation in the blocks (dynamic convolution paper, Table 7).
        last_squeeze: squeeze-and-excitation after the last convolution.
        conv_layer: convolution type of the blocks, one for all or one each for expansion, depthwise and projection; the
            other layers are always static.
        last_conv_layer: type of the last 1x1 convolution; static by default, as that paper's counts imply.
    """

    def __init__(
        self,
        early_stride: bool = True,
        squeeze: bool = True,
        last_squeeze: bool = True,
        conv_layer: ConvLayers = Conv2d,
        last_conv_layer: ConvLayer = Conv2d,
    ) -> None:
        super().__init__()
        norm_layer = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
        channels = 16
        self.stem = ConvBNAct(3, channels, 3, stride=2, activation=nn.Hardswish, norm_layer=norm_layer)
        self.blocks = nn.Sequential()
        strides = EARLY_STRIDES if early_stride else STRIDES
        for (kernel_size, hidden, out_channels, has_squeeze, activation), stride in zip(BLOCKS, strides, strict=True):
            self.blocks.append(
                InvertedResidual(
                    channels,
                    hidden,
                    out_channels,
                    kernel_size,
                    stride,
                    conv_layer,
                    activation,
                    norm_layer,
                    squeeze=squeeze and has_squeeze,
                )
            )
            channels = out_channels
        self.out_channels = 6 * channels
        self.last = ConvBNAct(
            channels, self.out_channels, activation=nn.Hardswish, conv_layer=last_conv_layer, norm_layer=norm_layer
        )
        self.last_squeeze = SqueezeExcitation(self.out_channels) if last_squeeze else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images (N, 3, H, W) to features (N, 576, H / 32, W / 32)."""
        features: Tensor = self.last_squeeze(self.last(self.blocks(self.stem(images))))
        return features
