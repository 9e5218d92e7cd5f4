"""Pose model: a backbone, a head, and the activation that turns the head's maps into heatmaps."""

import math

from torch import Tensor, nn


class SpatialSoftmax(nn.Module):
    """Spatial softmax, scaled so that heatmaps of a cross-entropy model are comparable with those of an MSE model.

    The target of the softmax over a map's pixels is a Gaussian that sums to 1. A Gaussian with peak 1 sums to
    2 pi sigma^2, so multiplied by this number a perfect map has peak 1 again (within 1% on the pixel grid).

    Args:
        sigma: standard deviation of the target Gaussian in heatmap pixels.
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.gaussian_sum = 2 * math.pi * sigma**2

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, K, H, W) of any float type to float32 heatmaps (N, K, H, W)."""
        return maps.float().flatten(2).softmax(2).view_as(maps) * self.gaussian_sum


class PoseNet(nn.Module):
    """Top-down pose model: person crops to one map for each of K keypoints.

    Args:
        backbone: images to features at stride 32.
        head: features to K maps at stride 4.
        activation: maps to heatmaps with peaks near 1; depends on the loss of training.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.activation = activation

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images (N, 3, H, W) to maps (N, K, H / 4, W / 4), the input of the loss."""
        maps: Tensor = self.head(self.backbone(images))
        return maps

    def heatmaps(self, images: Tensor) -> Tensor:
        """Map normalized images (N, 3, H, W) to heatmaps (N, K, H / 4, W / 4) to decode."""
        heatmaps: Tensor = self.activation(self(images))
        return heatmaps
