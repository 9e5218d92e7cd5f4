"""Building blocks: channel rounding, shapes, activations and skip connections."""

import itertools
from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models._utils import _make_divisible

from pose.models.backbones.blocks import ConvBNAct, InvertedResidual, SqueezeExcitation, make_divisible
from pose.models.dynamic_conv import DynamicConv2d


def test_make_divisible_rounds_like_torchvision() -> None:
    for channels in (0.35, 1, 4, 11.2, 12, 16, 22.4, 33.6, 67.2, 128, 1280, 1282.5):
        assert make_divisible(channels) == _make_divisible(channels, 8)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_output_size_is_input_size_divided_by_stride(kernel_size: int, stride: int) -> None:
    block = ConvBNAct(4, 6, kernel_size, stride)
    assert block(torch.zeros(2, 4, 8, 6)).shape == (2, 6, 8 // stride, 6 // stride)


def test_activation_is_relu6_by_default() -> None:
    x = 100 * torch.randn(2, 4, 8, 6)
    assert ConvBNAct(4, 6).eval()(x).amin() == 0
    assert ConvBNAct(4, 6).eval()(x).amax() == 6
    assert ConvBNAct(4, 6, activation=nn.ReLU).eval()(x).amin() == 0
    assert ConvBNAct(4, 6, activation=nn.ReLU).eval()(x).amax() > 6
    assert ConvBNAct(4, 6, activation=nn.Identity).eval()(x).amin() < 0


def test_norm_layer_applies_to_every_batch_norm() -> None:
    block = InvertedResidual(8, 16, 8, norm_layer=partial(nn.BatchNorm2d, eps=0.5))
    assert [m.eps for m in block.modules() if isinstance(m, nn.BatchNorm2d)] == [0.5] * 3


def test_only_the_projection_has_no_activation() -> None:
    block = InvertedResidual(8, 16, 8, activation=nn.Hardswish)
    assert [type(part.act) for part in (block.expand, block.depthwise, block.project)] == [
        nn.Hardswish, nn.Hardswish, nn.Identity,
    ]  # fmt: skip


@pytest.mark.parametrize("channels", [16, 96, 240, 576])
def test_squeeze_excitation_equals_torchvision(channels: int) -> None:
    ours = SqueezeExcitation(channels)
    reference = torchvision.ops.SqueezeExcitation(
        channels, _make_divisible(channels // 4, 8), scale_activation=nn.Hardsigmoid
    )
    assert all(torch.all(layer.bias == 0) for layer in (ours.fc1, ours.fc2))
    ours.load_state_dict(reference.state_dict())
    x = 5 * torch.randn(3, channels, 4, 3)
    torch.testing.assert_close(ours(x), reference(x))


def test_squeeze_excitation_is_applied_before_the_projection() -> None:
    block = InvertedResidual(8, 16, 8, squeeze=True).eval()
    x = torch.randn(2, 8, 6, 6)
    features = block.depthwise(block.expand(x))
    torch.testing.assert_close(block(x), x + block.project(block.squeeze(features)))
    assert not torch.equal(block.squeeze(features), features)


def test_squeeze_excitation_is_always_static() -> None:
    convs = [m for m in InvertedResidual(8, 16, 8, conv_layer=DynamicConv2d, squeeze=True).modules() if is_conv(m)]
    assert [type(conv) for conv in convs] == [DynamicConv2d, DynamicConv2d, nn.Conv2d, nn.Conv2d, DynamicConv2d]


def test_input_is_added_only_where_shapes_agree() -> None:
    assert InvertedResidual(8, 16, 8).adds_input
    assert not InvertedResidual(8, 16, 16).adds_input
    assert not InvertedResidual(8, 16, 8, stride=2).adds_input


def test_residual_block_adds_the_input() -> None:
    block = InvertedResidual(8, 16, 8).eval()
    nn.init.zeros_(block.project.bn.weight)
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(block(x), x)


def test_no_expansion_if_hidden_channels_equal_input_channels() -> None:
    assert isinstance(InvertedResidual(8, 8, 16).expand, nn.Identity)
    assert isinstance(InvertedResidual(8, 48, 16).expand, ConvBNAct)


def test_one_conv_layer_applies_to_all_three_convolutions() -> None:
    convs = [m.conv for m in InvertedResidual(8, 16, 8, conv_layer=DynamicConv2d).modules() if isinstance(m, ConvBNAct)]
    assert len(convs) == 3
    assert all(isinstance(conv, DynamicConv2d) for conv in convs)


@pytest.mark.parametrize("dynamic", list(itertools.product([False, True], repeat=3)))
def test_sequence_of_conv_layers_applies_by_position(dynamic: tuple[bool, bool, bool]) -> None:
    block = InvertedResidual(
        8, 16, 8, conv_layer=[DynamicConv2d if is_dynamic else nn.Conv2d for is_dynamic in dynamic]
    )
    parts = (block.expand, block.depthwise, block.project)
    assert tuple(isinstance(part.conv, DynamicConv2d) for part in parts) == dynamic


def test_conv_layer_of_the_projection_is_the_third_without_expansion_too() -> None:
    block = InvertedResidual(8, 8, 8, conv_layer=[DynamicConv2d, nn.Conv2d, DynamicConv2d])
    assert isinstance(block.depthwise.conv, nn.Conv2d)
    assert isinstance(block.project.conv, DynamicConv2d)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_wrong_number_of_conv_layers_is_rejected(count: int) -> None:
    with pytest.raises(ValueError, match=rf"3 \(one per convolution\), got {count}"):
        InvertedResidual(8, 16, 8, conv_layer=[nn.Conv2d] * count)


def is_conv(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | DynamicConv2d)
