"""Heatmap encoding, decoding and flip averaging.

Source: SimpleBaseline (Xiao et al. 2018) and HRNet's public code; the paper trains with the same targets (section 6).
DARK decoding: Zhang et al., CVPR 2020. ``sigma`` and grid coordinates are in heatmap pixels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose.errors import DataError
from pose.geometry import Array, Float32

if TYPE_CHECKING:
    import torch

_Maps = TypeVar("_Maps", "torch.Tensor", Float32)

DecodeMethod = Literal["quarter", "dark"]
"""``quarter``: the argmax moved a quarter pixel, the protocol of published figures; ``dark``: a sub-pixel maximum."""

TIE = 1e-5
"""Difference of two values, relative to the peak, that rounding can cause: it depends on the batch, up to 2e-6."""
_LOG_FLOOR = 1e-10
"""Smallest blurred value whose logarithm DARK takes."""


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


def decode(heatmaps: ArrayLike, method: DecodeMethod = "quarter", sigma: float = 2) -> tuple[Float32, Float32]:
    """Decode heatmaps: the argmax of each map, moved to a sub-pixel position.

    ``quarter`` moves it a quarter pixel toward the higher neighbor on each axis. A peak in the first two or the last
    row or column is not moved, as in the reference (1 < x < W - 1). Of two equal pixels the first is the peak, also as
    in the reference. Rounding does not decide where values differ by less than `TIE`: the offset goes to 0 as the
    neighbors become equal, and continuously to the result of a tie as the pixel before the peak reaches it.

    ``dark`` (Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020) blurs
    the map by a Gaussian of the targets' ``sigma``, and moves the peak to the maximum of the quadratic function that
    has the derivatives of the blurred map's logarithm there; this is exact for a Gaussian. A peak in the first or last
    two rows or columns is not moved, nor one where that function has no maximum within two pixels.

    Args:
        heatmaps: (..., H, W).
        method: how the peak is moved.
        sigma: standard deviation of the target Gaussian and of the blur; ``quarter`` ignores it.

    Returns:
        keypoints_heatmap (..., 2) as x, y in heatmap pixels, and scores (...), the values of the peaks before the blur.
        A map without a positive value gives (0, 0). A map with NaN has the score NaN.

    Raises:
        DataError: ``method`` is unknown.
    """
    if method not in get_args(DecodeMethod):
        raise DataError(f"decode: expected one of {', '.join(get_args(DecodeMethod))}, got {method!r}")
    maps = np.ascontiguousarray(heatmaps)
    height, width = maps.shape[-2:]
    flat = maps.reshape(-1, height * width)
    peak = flat.argmax(axis=1)
    scores = flat[np.arange(len(flat)), peak].astype(np.float32)
    y, x = np.divmod(peak, width)
    keypoints = np.stack([x, y], axis=1).astype(np.float32)
    keypoints[scores <= 0] = 0
    last = 1 if method == "quarter" else 2
    movable = (scores > 0) & (x > 1) & (x < width - last) & (y > 1) & (y < height - last)
    index = np.flatnonzero(movable)
    if method == "quarter":
        keypoints[index] += _quarter_offsets(flat, index, peak[index], width)
    else:
        keypoints[index] += _dark_offsets(maps.reshape(-1, height, width), index, x[index], y[index], sigma)
    return keypoints.reshape(*maps.shape[:-2], 2), scores.reshape(maps.shape[:-2])


def _quarter_offsets(flat: Float32, index: NDArray[np.intp], peak: NDArray[np.intp], width: int) -> Float32:
    """Return the (M, 2) quarter-pixel offsets of peaks, which lie at ``peak`` (M,) in the rows ``index`` (M,)."""
    after_x, before_x, after_y, before_y = (flat[index, peak + step] for step in (1, -1, width, -width))
    after, before = np.stack([after_x, after_y], axis=1), np.stack([before_x, before_y], axis=1)
    highest = flat[index, peak][:, None].astype(np.float64)
    with np.errstate(invalid="ignore"):  # of infinite values, which do not move the peak
        direction = np.clip((after - before) / (TIE * highest), -1, 1)
        tie = 1 - np.clip((highest - before) / (TIE * highest), 0, 1)
        return np.nan_to_num(direction / 4 - tie / 2).astype(np.float32)


def _dark_offsets(
    maps: Float32, index: NDArray[np.intp], x: NDArray[np.intp], y: NDArray[np.intp], sigma: float
) -> Float32:
    """Return the (M, 2) offsets from the peaks (x, y) of the maps ``index`` to the maximum of the blurred logarithm.

    Only the 5x5 values around each peak are blurred. Beyond the border a map is 0, as in the public code of the paper.
    """
    radius = round(2.5 * sigma)
    reach = radius + 2
    window = np.arange(2 * reach + 1)
    padded = np.pad(maps, ((0, 0), (reach, reach), (reach, reach)))
    patches = padded[index[:, None, None], (y[:, None] + window)[:, :, None], (x[:, None] + window)[:, None, :]]
    distance = window - reach - np.arange(-2, 3)[:, None]
    kernels = np.where(np.abs(distance) <= radius, np.exp(-(distance**2) / (2 * sigma**2)), 0)
    kernels /= kernels[0].sum()
    with np.errstate(invalid="ignore"):
        logs = np.log(np.maximum(kernels @ patches.astype(np.float64) @ kernels.T, _LOG_FLOOR))
        dx, dy = (logs[:, 2, 3] - logs[:, 2, 1]) / 2, (logs[:, 3, 2] - logs[:, 1, 2]) / 2
        dxx = (logs[:, 2, 4] - 2 * logs[:, 2, 2] + logs[:, 2, 0]) / 4
        dyy = (logs[:, 4, 2] - 2 * logs[:, 2, 2] + logs[:, 0, 2]) / 4
        dxy = (logs[:, 3, 3] - logs[:, 1, 3] - logs[:, 3, 1] + logs[:, 1, 1]) / 4
        determinant = dxx * dyy - dxy**2
        is_maximum = np.isfinite(determinant) & (dxx < 0) & (determinant > 0)
        # The step of Newton's method: minus the inverse of the second derivatives times the first ones.
        adjugate_step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=1)
        steps = adjugate_step / np.where(is_maximum, determinant, 1)[:, None]
    is_near = np.abs(steps).max(axis=1, initial=0) <= 2  # further away the derivatives say nothing
    return np.where((is_maximum & is_near)[:, None], steps, 0).astype(np.float32)


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
