"""Heads: output sizes, dynamic layers and weight initialization."""

import pytest
import torch
from torch import nn

from pose.models.dynamic_conv import DynamicConv2d
from pose.models.heads import TypeAHead, TypeBHead


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 3), (4, 3), (3, 5)])
@pytest.mark.parametrize("head", [TypeAHead, TypeBHead])
@pytest.mark.parametrize("width", [1.0, 0.5, 0.25])
def test_maps_are_eight_times_the_size_of_the_features(
    head: type[nn.Module], size_hw: tuple[int, int], width: float
) -> None:
    model = head(40, 5, width).eval()
    assert model(torch.zeros(2, 40, *size_hw)).shape == (2, 5, 8 * size_hw[0], 8 * size_hw[1])


def test_dynamic_type_b_head_has_the_same_output_shape() -> None:
    model = TypeBHead(40, 5, 0.25, conv_layer=DynamicConv2d)
    assert model(torch.zeros(2, 40, 4, 3)).shape == (2, 5, 32, 24)


def test_all_type_b_convolutions_but_the_last_are_dynamic() -> None:
    static = [m for m in TypeBHead(40, 5, conv_layer=DynamicConv2d).modules() if isinstance(m, nn.Conv2d)]
    dynamic = [m for m in TypeBHead(40, 5, conv_layer=DynamicConv2d).modules() if isinstance(m, DynamicConv2d)]
    assert [m.out_channels for m in static] == [5]
    assert len(dynamic) == 2 + 3 + 3 + 3


def test_type_b_layers_match_table_9() -> None:
    convs = [m for m in TypeBHead(1280, 17).modules() if isinstance(m, nn.Conv2d)]
    depthwise, pointwise = (
        [(m.in_channels, m.out_channels) for m in convs if m.kernel_size == size] for size in ((5, 5), (1, 1))
    )
    assert depthwise == [(1280, 1280), (768, 768), (768, 768), (384, 384)]
    assert pointwise == [(1280, 256), (256, 768), (768, 256), (256, 768), (768, 128), (128, 384), (384, 128), (128, 17)]


def test_head_width_multiplies_the_channels() -> None:
    assert [m.out_channels for m in TypeBHead(96, 17, 0.5).modules() if isinstance(m, nn.Conv2d)] == [
        96, 128, 384, 384, 128, 384, 384, 64, 192, 192, 64, 17,
    ]  # fmt: skip
    assert [m.out_channels for m in TypeAHead(96, 17, 0.5).modules() if isinstance(m, nn.ConvTranspose2d)] == [128] * 3


@pytest.mark.parametrize("head", [TypeAHead(64, 17), TypeBHead(64, 17), TypeBHead(64, 17, conv_layer=DynamicConv2d)])
def test_last_convolution_is_initialized_small(head: nn.Sequential) -> None:
    final = head[-1]
    assert isinstance(final, nn.Conv2d)
    assert final.bias is not None
    assert torch.all(final.bias == 0)
    assert 0.0009 < final.weight.std().item() < 0.0011


def test_transposed_convolutions_are_initialized_as_in_simple_baseline() -> None:
    for layer in TypeAHead(64, 17):
        if isinstance(layer, nn.ConvTranspose2d):
            assert layer.bias is None
            assert 0.00098 < layer.weight.std().item() < 0.00102
