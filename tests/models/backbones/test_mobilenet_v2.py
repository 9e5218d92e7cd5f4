"""MobileNetV2: the static model equals torchvision's, the dynamic one differs only in its convolutions."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from pose.models.backbones.blocks import ConvBNAct, ConvLayer
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.dynamic_conv import DynamicConv2d


@pytest.mark.parametrize("width", [1.0, 0.75, 0.5, 0.35])
def test_static_model_equals_torchvision_with_its_weights(
    width: float, assert_same_model: Callable[[nn.Module, nn.Module], None]
) -> None:
    assert_same_model(MobileNetV2(width), torchvision.models.mobilenet_v2(width_mult=width).features)


def test_weights_are_initialized_as_in_torchvision() -> None:
    ours, reference = MobileNetV2(), torchvision.models.mobilenet_v2().features
    for parameter, expected in zip(ours.parameters(), reference.parameters(), strict=True):
        assert parameter.shape == expected.shape
        if parameter.numel() > 10_000:
            assert abs(parameter.std().item() / expected.std().item() - 1) < 0.05


@pytest.mark.parametrize(("depth", "blocks"), [(0.1, 7), (0.5, 11), (0.7, 12), (1.0, 17), (2.0, 34)])
def test_depth_multiplies_the_blocks_of_each_stage(depth: float, blocks: int) -> None:
    model = MobileNetV2(0.35, depth)
    assert len(model.blocks) == blocks
    assert model.eval()(torch.zeros(1, 3, 64, 32)).shape == (1, 1280, 2, 1)


@pytest.mark.parametrize(("first_strides", "stride"), [((2, 2), 32), ((1, 2), 16), ((2, 1), 16), ((1, 1), 8)])
def test_first_strides_set_the_output_stride_and_keep_the_weights(first_strides: tuple[int, int], stride: int) -> None:
    model = MobileNetV2(0.35, first_strides=first_strides).eval()

    assert model(torch.zeros(1, 3, 64, 32)).shape == (1, 1280, 64 // stride, 32 // stride)
    model.load_state_dict(MobileNetV2(0.35).state_dict())
    strides = [model.stem.conv.stride, *(block.depthwise.conv.stride for block in model.blocks)]
    assert (strides[0][0], strides[2][0]) == first_strides
    default = [block.depthwise.conv.stride for block in MobileNetV2(0.35).blocks]
    assert strides[3:] == default[2:]


def test_all_but_stem_and_last_convolution_are_dynamic() -> None:
    model = MobileNetV2(0.35, conv_layer=DynamicConv2d)
    static = [name for name, m in model.named_modules() if isinstance(m, ConvBNAct) and isinstance(m.conv, nn.Conv2d)]
    assert static == ["stem", "last"]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_conv_layers_apply_by_position(position: int) -> None:
    conv_layers: list[ConvLayer] = [nn.Conv2d] * 3
    conv_layers[position] = DynamicConv2d
    model = MobileNetV2(0.35, conv_layer=conv_layers)
    names = {name.split(".")[2] for name, m in model.named_modules() if isinstance(m, DynamicConv2d)}
    assert names == {("expand", "depthwise", "project")[position]}


def test_last_conv_layer_makes_the_last_convolution_dynamic() -> None:
    model = MobileNetV2(0.35, conv_layer=DynamicConv2d, last_conv_layer=DynamicConv2d)
    assert isinstance(model.last.conv, DynamicConv2d)
    assert isinstance(model.stem.conv, nn.Conv2d)


def test_dynamic_model_with_equal_kernels_equals_the_static_model() -> None:
    static, dynamic = MobileNetV2(0.35).eval(), MobileNetV2(0.35, conv_layer=DynamicConv2d).eval()
    with torch.no_grad():
        for source, target in zip(
            static.modules(), (m for m in dynamic.modules() if not _is_attention(m)), strict=True
        ):
            if isinstance(target, DynamicConv2d):
                target.weight.copy_(source.weight.expand_as(target.weight))
            elif isinstance(target, nn.Conv2d):
                target.weight.copy_(source.weight)
        images = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(dynamic(images), static(images), rtol=1e-4, atol=1e-4)


def _is_attention(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "KernelAttention"
