"""Heatmap encoding, decoding and flip averaging.

Source: SimpleBaseline (Xiao et al. 2018) and HRNet's public code; the paper trains with the same targets (section 6).
``sigma`` and grid coordinates are in heatmap pixels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from pose.geometry import Array, Float32

if TYPE_CHECKING:
    import torch

_Maps = TypeVar("_Maps", "torch.Tensor", Float32)


def encode(
    keypoints_input: ArrayLike,
    visibility: ArrayLike,
    heatmap_wh: tuple[int, int],
    stride: float = 4,
    sigma: float = 2,
) -> tuple[Float32, Float32]:
    """Encode keypoints as Gaussian heatmaps: peak 1 at the nearest grid point, cropped to a patch of +-3 sigma.

    Args:
        keypoints_input: (K, 2) x, y in input pixels.
        visibility: (K,) greater than 0 for labeled keypoints.
        heatmap_wh: width and height of the heatmap.
        stride: input pixels per heatmap pixel.
        sigma: standard deviation of the Gaussian, in heatmap pixels.

    Returns:
        heatmaps (K, H, W) and weights (K,): 0 for keypoints that are not labeled or whose patch is entirely outside,
        else 1.
    """
    width, height = heatmap_wh
    # The reference's int(x / stride + .5) truncates toward zero, so -0.6 rounds to 0 and not to -1.
    center = np.trunc(np.asarray(keypoints_input, dtype=np.float64) / stride + 0.5)
    radius = int(sigma * 3)
    labeled = np.asarray(visibility) > 0
    overlaps = np.all((center - radius < [width, height]) & (center + radius + 1 >= 0), axis=1)
    weights = (labeled & overlaps).astype(np.float32)
    rows = _gaussian(center[:, 1], height, sigma, radius)
    columns = _gaussian(center[:, 0], width, sigma, radius)
    return rows[:, :, None] * (columns * weights[:, None])[:, None, :], weights


def _gaussian(center: Array, length: int, sigma: float, radius: int) -> Float32:
    """Return the (K, length) profiles of Gaussians around (K,) centers along one axis; 0 beyond ``radius``."""
    distance = np.arange(length) - center[:, None]
    profile = np.exp(-(distance**2) / (2 * sigma**2))
    return np.where(np.abs(distance) <= radius, profile, 0).astype(np.float32)


def decode(heatmaps: ArrayLike) -> tuple[Float32, Float32]:
    """Decode heatmaps: the argmax of each map, moved a quarter pixel toward the higher neighbor on each axis.

    Args:
        heatmaps: (..., H, W).

    Returns:
        keypoints_heatmap (..., 2) as x, y in heatmap pixels, and scores (...), the values of the peaks. A map without a
        positive value gives (0, 0). A peak in the first two or the last row or column is not moved, as in the reference
        (1 < x < W - 1).
    """
    maps = np.ascontiguousarray(heatmaps)
    height, width = maps.shape[-2:]
    flat = maps.reshape(-1, height * width)
    peak = flat.argmax(axis=1)
    index = np.arange(len(flat))
    scores = flat[index, peak].astype(np.float32)
    y, x = np.divmod(peak, width)
    movable = (scores > 0) & (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    index, peak = index[movable], peak[movable]
    keypoints = np.stack([x, y], axis=1).astype(np.float32)
    keypoints[scores <= 0] = 0
    keypoints[movable, 0] += 0.25 * np.sign(flat[index, peak + 1] - flat[index, peak - 1])
    keypoints[movable, 1] += 0.25 * np.sign(flat[index, peak + width] - flat[index, peak - width])
    return keypoints.reshape(*maps.shape[:-2], 2), scores.reshape(maps.shape[:-2])


def flip_average(heatmaps: _Maps, flipped: _Maps, flip_pairs: Sequence[tuple[int, int]], shift: int = 1) -> _Maps:
    """Flip test: average the heatmaps of a crop with those of the flipped crop.

    The flipped maps are flipped back, left and right keypoints are swapped, and the maps are shifted right by ``shift``
    columns to align the grids (protocol: SimpleBaseline and HRNet, ``SHIFT_HEATMAP``).

    Args:
        heatmaps: (..., K, H, W) of the crop, a tensor or an array.
        flipped: the same for the flipped crop.
        flip_pairs: (left, right) keypoint indices.
        shift: number of columns; the first ``shift`` columns are not shifted.
    """
    order = list(range(heatmaps.shape[-3]))
    for left, right in flip_pairs:
        order[left], order[right] = right, left
    width = heatmaps.shape[-1]
    columns = [width - 1 - (column if column < shift else column - shift) for column in range(width)]
    return (heatmaps + flipped[..., order, :, :][..., columns]) * 0.5
