"""The pose model: backbone, head, and what makes heatmaps of its maps."""

import math

from torch import Tensor, nn


class SpatialSoftmax(nn.Module):
    """Turns the maps of a model trained with cross-entropy into heatmaps comparable with the other loss's.

    The softmax over a map's pixels is fitted to a Gaussian that sums to 1; multiplied by the sum of a Gaussian with
    peak 1, which is 2 pi sigma^2, a perfect map has peak 1 again (within 1% on a grid).

    Args:
        sigma: of the target Gaussian, in heatmap pixels.
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.gaussian_sum = 2 * math.pi * sigma**2

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, K, H, W) of any precision to float32 of the same shape."""
        return maps.float().flatten(2).softmax(2).view_as(maps) * self.gaussian_sum


class PoseNet(nn.Module):
    """Maps of K keypoints from crops of persons.

    Args:
        backbone: images to features at stride 32.
        head: features to K maps at stride 4.
        activation: maps to heatmaps with peaks near 1; the loss decides which.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.activation = activation

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images (N, 3, H, W) to what the loss takes, (N, K, H / 4, W / 4)."""
        maps: Tensor = self.head(self.backbone(images))
        return maps

    def heatmaps(self, images: Tensor) -> Tensor:
        """Map normalized images (N, 3, H, W) to heatmaps (N, K, H / 4, W / 4) to decode."""
        heatmaps: Tensor = self.activation(self(images))
        return heatmaps
