"""Keypoints to heatmaps and back. Both directions live here and are tested as a pair.

Source: SimpleBaseline (Xiao et al. 2018) and HRNet's public code; the paper trains with the same targets
(section 6). ``sigma`` and grid coordinates are heatmap pixels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.geometry import Float32

if TYPE_CHECKING:
    import torch

Heatmaps = TypeVar("Heatmaps", "torch.Tensor", Float32)


def encode(
    keypoints_input: ArrayLike,
    visibility: ArrayLike,
    heatmap_wh: tuple[int, int],
    stride: float = 4,
    sigma: float = 2,
) -> tuple[Float32, Float32]:
    """Draw one Gaussian a keypoint: peak 1 on the nearest grid point, cut to a patch of +-3 sigma.

    Args:
        keypoints_input: (K, 2) x, y in input pixels.
        visibility: (K,) greater than 0 where labelled.
        heatmap_wh: width and height of the grid.
        stride: input pixels a grid step.
        sigma: of the Gaussian, in heatmap pixels.

    Returns:
        heatmaps (K, H, W) and weights (K,): 0 for keypoints that are not labelled or whose patch lies wholly outside.
    """
    width, height = heatmap_wh
    # int(x / stride + .5) of the reference truncates toward zero, so -0.6 rounds to 0 and not to -1.
    center = np.trunc(np.asarray(keypoints_input, dtype=np.float64) / stride + 0.5)
    reach = int(sigma * 3)
    labelled = np.asarray(visibility) > 0
    touches = np.all((center - reach < [width, height]) & (center + reach + 1 >= 0), axis=1)
    weights = (labelled & touches).astype(np.float32)
    rows = _gaussian(center[:, 1], height, sigma, reach)
    columns = _gaussian(center[:, 0], width, sigma, reach)
    return rows[:, :, None] * (columns * weights[:, None])[:, None, :], weights


def _gaussian(center: NDArray[np.float64], length: int, sigma: float, reach: int) -> Float32:
    distance = np.arange(length) - center[:, None]
    profile = np.exp(-(distance**2) / (2 * sigma**2))
    return np.where(np.abs(distance) <= reach, profile, 0).astype(np.float32)


def decode(heatmaps: ArrayLike) -> tuple[Float32, Float32]:
    """Find each map's peak, moved a quarter pixel toward its higher neighbour on each axis.

    Args:
        heatmaps: (..., H, W).

    Returns:
        keypoints_heatmap (..., 2) x, y and scores (...), the peaks' values. A map without a positive value gives
        (0, 0). Peaks on the two outer rows or columns keep the grid point, as in the reference (1 < x < W - 1).
    """
    maps = np.ascontiguousarray(heatmaps)
    height, width = maps.shape[-2:]
    flat = maps.reshape(-1, height * width)
    peak = flat.argmax(axis=1)
    row = np.arange(len(flat))
    scores = flat[row, peak].astype(np.float32)
    y, x = np.divmod(peak, width)
    inner = (scores > 0) & (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    row, peak = row[inner], peak[inner]
    keypoints = np.stack([x, y], axis=1).astype(np.float32)
    keypoints[scores <= 0] = 0
    keypoints[inner, 0] += 0.25 * np.sign(flat[row, peak + 1] - flat[row, peak - 1])
    keypoints[inner, 1] += 0.25 * np.sign(flat[row, peak + width] - flat[row, peak - width])
    return keypoints.reshape(*maps.shape[:-2], 2), scores.reshape(maps.shape[:-2])


def flip_average(
    heatmaps: Heatmaps, flipped: Heatmaps, flip_pairs: Sequence[tuple[int, int]], shift: int = 1
) -> Heatmaps:
    """Average heatmaps with those of the mirrored crop.

    The mirrored maps are turned back, left and right exchanged, and moved right by ``shift`` columns, because the grid
    of a mirrored crop lies that much off (protocol: SimpleBaseline and HRNet, ``SHIFT_HEATMAP``).

    Args:
        heatmaps: (..., K, H, W) of the crop, tensor or array.
        flipped: of the mirrored crop, alike.
        flip_pairs: (left, right) keypoint indices.
        shift: columns; the first ``shift`` columns keep their place.
    """
    order = list(range(heatmaps.shape[-3]))
    for left, right in flip_pairs:
        order[left], order[right] = right, left
    width = heatmaps.shape[-1]
    columns = [width - 1 - (column if column < shift else column - shift) for column in range(width)]
    return (heatmaps + flipped[..., order, :, :][..., columns]) * 0.5
