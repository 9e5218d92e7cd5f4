"""The blocks: channel rounding, shapes, and where the input is added."""

import pytest
import torch
from torch import nn
from torchvision.models._utils import _make_divisible

from pose.models.blocks import ConvBNAct, InvertedResidual, make_divisible
from pose.models.dynamic_conv import DynamicConv2d


def test_make_divisible_rounds_as_torchvision() -> None:
    for channels in (0.35, 1, 4, 11.2, 12, 16, 22.4, 33.6, 67.2, 128, 1280, 1282.5):
        assert make_divisible(channels) == _make_divisible(channels, 8)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv_keeps_the_size_but_for_its_stride(kernel_size: int, stride: int) -> None:
    block = ConvBNAct(4, 6, kernel_size, stride)
    assert block(torch.zeros(2, 4, 8, 6)).shape == (2, 6, 8 // stride, 6 // stride)


def test_activation_is_relu6_or_none() -> None:
    x = 100 * torch.randn(2, 4, 8, 6)
    assert ConvBNAct(4, 6).eval()(x).amin() == 0
    assert ConvBNAct(4, 6).eval()(x).amax() == 6
    assert ConvBNAct(4, 6, act=False).eval()(x).amin() < 0


def test_residual_only_where_shapes_agree() -> None:
    assert InvertedResidual(8, 16, 8).adds_input
    assert not InvertedResidual(8, 16, 16).adds_input
    assert not InvertedResidual(8, 16, 8, stride=2).adds_input


def test_residual_adds_the_input() -> None:
    block = InvertedResidual(8, 16, 8).eval()
    nn.init.zeros_(block.project.bn.weight)
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(block(x), x)


def test_no_expansion_where_hidden_equals_input() -> None:
    assert isinstance(InvertedResidual(8, 8, 16).expand, nn.Identity)
    assert isinstance(InvertedResidual(8, 48, 16).expand, ConvBNAct)


def test_conv_layer_makes_all_three_convolutions() -> None:
    convs = [m.conv for m in InvertedResidual(8, 16, 8, conv_layer=DynamicConv2d).modules() if isinstance(m, ConvBNAct)]
    assert len(convs) == 3
    assert all(isinstance(conv, DynamicConv2d) for conv in convs)
