"""ResNets: static models equal torchvision's, dynamic ones differ only in the convolutions of their blocks."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock as TorchvisionBlock

from pose.models.backbones.blocks import ConvBNAct, ConvLayer
from pose.models.backbones.resnet import BasicBlock, ResNet
from pose.models.dynamic_conv import DynamicConv2d

SHORTCUTS_18 = [f"blocks.{block}.shortcut.conv" for block in (2, 4, 6)]
"""In the first block of each stage that halves the size."""


def torchvision_features(stage_blocks: list[int]) -> nn.Sequential:
    return nn.Sequential(*list(torchvision.models.ResNet(TorchvisionBlock, stage_blocks).children())[:-2])


@pytest.mark.parametrize("stage_blocks", [[2, 2, 2, 2], [1, 1, 1, 1], [3, 1, 2, 1]])
def test_static_model_equals_torchvision_with_its_weights(
    stage_blocks: list[int], assert_same_model: Callable[[nn.Module, nn.Module], None]
) -> None:
    assert_same_model(ResNet(stage_blocks), torchvision_features(stage_blocks))


def test_default_is_resnet_18() -> None:
    ours, reference = ResNet(), torchvision_features([2, 2, 2, 2])
    assert [p.shape for p in ours.parameters()] == [p.shape for p in reference.parameters()]


def test_weights_are_initialized_as_in_torchvision() -> None:
    ours, reference = ResNet(), torchvision_features([2, 2, 2, 2])
    for parameter, expected in zip(ours.parameters(), reference.parameters(), strict=True):
        if parameter.numel() > 5_000:
            assert abs(parameter.std().item() / expected.std().item() - 1) < 0.05


def test_features_are_at_stride_32() -> None:
    model = ResNet((1, 1, 1, 1)).eval()
    assert model.out_channels == 512
    assert model(torch.zeros(2, 3, 128, 96)).shape == (2, 512, 4, 3)


@pytest.mark.parametrize("stages", [3, 5])
def test_other_than_four_stages_is_rejected(stages: int) -> None:
    with pytest.raises(ValueError):
        ResNet([1] * stages)


def test_stem_and_shortcuts_are_static_by_default() -> None:
    model = ResNet(conv_layer=DynamicConv2d)
    dynamic = [name for name, m in model.named_modules() if isinstance(m, DynamicConv2d)]
    static = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    assert dynamic == [f"blocks.{block}.{part}.conv" for block in range(8) for part in ("first", "second")]
    assert static == ["stem.conv", *SHORTCUTS_18]


def test_shortcuts_are_dynamic_on_request() -> None:
    model = ResNet(conv_layer=DynamicConv2d, shortcut_conv_layer=DynamicConv2d)
    assert [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)] == ["stem.conv"]
    assert {name for name, m in model.named_modules() if isinstance(m, DynamicConv2d)} >= set(SHORTCUTS_18)


@pytest.mark.parametrize("position", [0, 1])
def test_conv_layers_apply_by_position(position: int) -> None:
    conv_layers: list[ConvLayer] = [nn.Conv2d] * 2
    conv_layers[position] = DynamicConv2d
    model = ResNet((1, 1, 1, 1), conv_layer=conv_layers)
    names = {name.split(".")[2] for name, m in model.named_modules() if isinstance(m, DynamicConv2d)}
    assert names == {("first", "second")[position]}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_wrong_number_of_conv_layers_is_rejected(count: int) -> None:
    with pytest.raises(ValueError, match=rf"2 \(one per convolution\), got {count}"):
        BasicBlock(8, 8, conv_layer=[nn.Conv2d] * count)


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 2), (8, 16, 1), (8, 16, 2)])
def test_shortcut_is_a_convolution_where_shapes_differ(inputs: int, outputs: int, stride: int) -> None:
    assert isinstance(BasicBlock(inputs, outputs, stride).shortcut, ConvBNAct)
    assert isinstance(BasicBlock(8, 8).shortcut, nn.Identity)


def test_every_weight_of_the_dynamic_model_gets_a_gradient() -> None:
    model = ResNet((1, 1, 1, 1), conv_layer=DynamicConv2d)
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []
