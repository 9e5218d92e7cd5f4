"""Losses, compared with a loop over keypoints and with torch's cross-entropy."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pose.engine.losses import LOSSES, cross_entropy, mse

BATCH, KEYPOINTS, HEIGHT, WIDTH = 4, 3, 8, 6


@pytest.fixture
def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Model output, targets and weights; some keypoints have no target, although their maps are not zero."""
    maps = torch.randn(BATCH, KEYPOINTS, HEIGHT, WIDTH, requires_grad=True)
    heatmaps = torch.rand(BATCH, KEYPOINTS, HEIGHT, WIDTH)
    weights = torch.tensor([[1, 0, 1], [1, 1, 1], [0, 0, 0], [0, 1, 1]]).float()
    return maps, heatmaps, weights


def test_mse_is_half_the_weighted_mean_squared_error_averaged_over_keypoints(example):
    maps, heatmaps, weights = example
    criterion = nn.MSELoss()
    expected = torch.tensor(0.0)
    for keypoint in range(KEYPOINTS):
        weight = weights[:, keypoint, None, None]
        expected += 0.5 * criterion(maps[:, keypoint] * weight, heatmaps[:, keypoint] * weight)

    torch.testing.assert_close(mse(maps, heatmaps, weights), expected / KEYPOINTS)


def test_cross_entropy_equals_torchs_with_normalized_targets(example):
    maps, heatmaps, weights = example
    probabilities = heatmaps.flatten(2) / heatmaps.flatten(2).sum(dim=2, keepdim=True)
    per_map = F.cross_entropy(maps.flatten(2).flatten(0, 1), probabilities.flatten(0, 1), reduction="none")

    expected = (per_map.view(BATCH, KEYPOINTS) * weights).mean()

    torch.testing.assert_close(cross_entropy(maps, heatmaps, weights), expected)


def test_cross_entropy_has_zero_gradient_where_the_softmax_equals_the_target(example):
    _, heatmaps, weights = example
    maps = heatmaps.log().requires_grad_()

    cross_entropy(maps, heatmaps, weights).backward()

    torch.testing.assert_close(maps.grad, torch.zeros_like(maps), atol=1e-7, rtol=0)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_a_keypoint_without_target_has_no_gradient(loss, example):
    maps, heatmaps, weights = example

    loss(maps, heatmaps, weights).backward()

    assert not maps.grad[weights == 0].any()
    assert maps.grad[weights == 1].any(dim=-1).any(dim=-1).all()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_the_mean_over_parts_of_a_batch_equals_the_loss_of_the_batch(loss, example):
    parts = [loss(*part) for part in zip(*(values.split(2) for values in example), strict=True)]

    torch.testing.assert_close(torch.stack(parts).mean(), loss(*example))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_the_loss_of_a_batch_without_targets_is_zero(loss):
    maps = torch.randn(2, KEYPOINTS, HEIGHT, WIDTH, requires_grad=True)

    value = loss(maps, torch.zeros(2, KEYPOINTS, HEIGHT, WIDTH), torch.zeros(2, KEYPOINTS))
    value.backward()

    assert value.item() == 0
    assert not maps.grad.any()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_half_precision_maps_are_converted_to_float32(loss, example):
    maps, heatmaps, weights = example
    half = maps.detach().bfloat16()

    value = loss(half, heatmaps, weights)

    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(half.float(), heatmaps, weights), rtol=0, atol=0)
