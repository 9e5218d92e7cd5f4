"""The pose model and the spatial softmax of models trained with cross-entropy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from pose import heatmap
from pose.models.pose_net import PoseNet, SpatialSoftmax


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_cross_entropy_heatmap_of_a_perfect_map_equals_the_target(sigma: float) -> None:
    target, _ = heatmap.encode(np.array([[96.0, 128.0]]), np.ones(1), (48, 64), sigma=sigma)
    probabilities = torch.from_numpy(target)[None] / target.sum()
    heatmaps = SpatialSoftmax(sigma)(probabilities.clamp(min=1e-30).log() + 5.0)
    torch.testing.assert_close(heatmaps, torch.from_numpy(target)[None], rtol=0, atol=0.01)
    assert heatmaps.amax().item() == pytest.approx(1, abs=0.01)


def test_each_cross_entropy_heatmap_sums_to_the_sum_of_the_gaussian() -> None:
    heatmaps = SpatialSoftmax(2.0)(torch.randn(2, 3, 8, 6))
    torch.testing.assert_close(heatmaps.sum((2, 3)), torch.full((2, 3), 2 * math.pi * 4))


def test_cross_entropy_heatmaps_of_bf16_maps_are_float32_and_finite() -> None:
    maps = 200 * torch.randn(2, 3, 8, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        heatmaps = SpatialSoftmax(2.0)(maps)
    assert heatmaps.dtype == torch.float32
    torch.testing.assert_close(heatmaps, SpatialSoftmax(2.0)(maps.float()))


def test_forward_returns_raw_maps_and_heatmaps_applies_the_activation() -> None:
    model = PoseNet(nn.AvgPool2d(4), nn.Conv2d(3, 5, 1), SpatialSoftmax(2.0))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), model.head(model.backbone(images)))
    assert torch.equal(model.heatmaps(images), SpatialSoftmax(2.0)(model(images)))
