"""MobileNetV3-Small: every variant compared with torchvision's, adapted in strides and squeezes; dynamic layers."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import SqueezeExcitation

from pose.models.backbones.blocks import ConvLayer
from pose.models.backbones.mobilenet_v3 import MobileNetV3Small
from pose.models.dynamic_conv import DynamicConv2d


def torchvision_features(early_stride: bool, squeeze: bool, last_squeeze: bool) -> nn.Sequential:
    features: nn.Sequential = torchvision.models.mobilenet_v3_small().features
    if early_stride:
        for block, stride in ((4, 1), (5, 2)):
            features[block].block[1][0].stride = (stride, stride)
        features[5].use_res_connect = False
    if not squeeze:
        for block in features[1:-1]:
            block.block = nn.Sequential(*(part for part in block.block if not isinstance(part, SqueezeExcitation)))
    if last_squeeze:
        features.append(SqueezeExcitation(576, 144, scale_activation=nn.Hardsigmoid))
    return features


@pytest.mark.parametrize("last_squeeze", [False, True], ids=["", "last"])
@pytest.mark.parametrize("squeeze", [False, True], ids=["plain", "squeeze"])
@pytest.mark.parametrize("early_stride", [False, True], ids=["final", "early"])
def test_static_model_equals_torchvision_with_its_weights(
    early_stride: bool, squeeze: bool, last_squeeze: bool, assert_same_model: Callable[[nn.Module, nn.Module], None]
) -> None:
    variant = early_stride, squeeze, last_squeeze
    assert_same_model(MobileNetV3Small(*variant), torchvision_features(*variant))


def test_weights_are_initialized_as_in_torchvision() -> None:
    ours, reference = MobileNetV3Small(last_squeeze=False), torchvision.models.mobilenet_v3_small().features
    for parameter, expected in zip(ours.parameters(), reference.parameters(), strict=True):
        assert parameter.shape == expected.shape
        if parameter.numel() > 5_000:
            assert abs(parameter.std().item() / expected.std().item() - 1) < 0.05


@pytest.mark.parametrize("early_stride", [False, True])
def test_features_are_at_stride_32(early_stride: bool) -> None:
    model = MobileNetV3Small(early_stride).eval()
    assert model.out_channels == 576
    assert model(torch.zeros(2, 3, 128, 96)).shape == (2, 576, 4, 3)


def test_early_stride_keeps_stride_8_for_one_more_block() -> None:
    def strides(model: MobileNetV3Small) -> list[int]:
        x, result = model.eval().stem(torch.zeros(1, 3, 64, 64)), []
        for block in model.blocks:
            x = block(x)
            result.append(64 // x.shape[2])
        return result

    assert strides(MobileNetV3Small(early_stride=False)) == [4, 8, 8, 16, 16, 16, 16, 16, 32, 32, 32]
    assert strides(MobileNetV3Small(early_stride=True)) == [4, 8, 8, 8, 16, 16, 16, 16, 32, 32, 32]


def test_only_the_convolutions_of_the_blocks_are_dynamic() -> None:
    model = MobileNetV3Small(conv_layer=DynamicConv2d)
    dynamic = [name for name, m in model.named_modules() if isinstance(m, DynamicConv2d)]
    static = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    assert len(dynamic) == 2 + 10 * 3
    assert {name.split(".", 2)[2] for name in dynamic} == {"expand.conv", "depthwise.conv", "project.conv"}
    squeezes = [f"blocks.{block}.squeeze.fc{layer}" for block in (0, *range(3, 11)) for layer in (1, 2)]
    assert static == ["stem.conv", *squeezes, "last.conv", "last_squeeze.fc1", "last_squeeze.fc2"]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_conv_layers_apply_by_position(position: int) -> None:
    conv_layers: list[ConvLayer] = [nn.Conv2d] * 3
    conv_layers[position] = DynamicConv2d
    model = MobileNetV3Small(conv_layer=conv_layers)
    names = {name.split(".")[2] for name, m in model.named_modules() if isinstance(m, DynamicConv2d)}
    assert names == {("expand", "depthwise", "project")[position]}


def test_last_conv_layer_makes_the_last_convolution_dynamic() -> None:
    model = MobileNetV3Small(last_conv_layer=DynamicConv2d)
    assert [name for name, m in model.named_modules() if isinstance(m, DynamicConv2d)] == ["last.conv"]


def test_every_weight_of_the_dynamic_model_gets_a_gradient() -> None:
    model = MobileNetV3Small(conv_layer=DynamicConv2d)
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []
