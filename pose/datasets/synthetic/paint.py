"""Drawing primitives of the synthetic data set: anti-aliased convex shapes, colors and texture tiles."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.geometry import Array, Float32

Canvas = Float32
"""(H, W, 3) BGR image that is drawn on."""
Labels = NDArray[np.int32]
"""(H, W) label map: which part of which person each pixel shows."""

TILE = 24
"""Side of a texture tile in pixels."""
EDGE_SHADE = 0.42
"""Darkening at the edge of a limb; separates arms from the trunk behind them."""
BACKGROUND_SATURATION = 0.45
"""Color saturation of the background relative to clothes; lower values make people easier to see."""
_SUBPIXEL_BITS = 4


def fill(
    canvas: Canvas,
    outline: NDArray[np.floating],
    paint: NDArray[np.floating],
    tile_to_image: Array | None = None,
    labels: Labels | None = None,
    label: int = 0,
) -> None:
    """Fill a convex polygon, anti-aliased.

    Args:
        canvas: (H, W, 3) BGR, changed in place.
        outline: (N, 2) corners in image pixels.
        paint: (3,) BGR color, or with ``tile_to_image`` a (h, w, 3) BGR tile.
        tile_to_image: (2, 3) matrix from tile pixels to image pixels.
        labels: (H, W), set to ``label`` where the polygon covers at least half of a pixel.
        label: value for the label map.
    """
    x0, y0 = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 2, canvas.shape[1::-1])
    if x0 >= x1 or y0 >= y1:
        return
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    corners = np.round((outline - (x0, y0)) * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillConvexPoly(mask, corners, 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    colors = np.asarray(paint, np.float32)
    if tile_to_image is not None:
        tile_to_region = tile_to_image - np.array([[0, 0, x0], [0, 0, y0]])
        size_wh = (int(x1 - x0), int(y1 - y0))
        warped = cv2.warpAffine(colors, tile_to_region, size_wh, borderMode=cv2.BORDER_REPLICATE)
        colors = np.asarray(warped, np.float32)
    region = canvas[y0:y1, x0:x1]
    region += (colors - region) * (mask.astype(np.float32) / 255)[..., None]
    if labels is not None:
        labels[y0:y1, x0:x1][mask > 127] = label


def convex_hull(points: NDArray[np.floating]) -> Float32:
    """Return the corners (M, 2) of the convex hull of points (N, 2)."""
    return np.asarray(cv2.convexHull(points.astype(np.float32))[:, 0], np.float32)


def circle(count: int) -> Array:
    """Return (count, 2) evenly spaced points on the unit circle."""
    angle = np.arange(count) * 2 * np.pi / count
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def box(left: float, top: float, right: float, bottom: float) -> Array:
    """Return the (4, 2) corners of an axis-aligned rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)


def cloth_color(rng: np.random.Generator) -> Array:
    """Sample a BGR color for clothes: any hue, from gray to saturated, rarely black."""
    hsv = np.array([[[rng.integers(180), rng.integers(20, 230), rng.integers(55, 250)]]], np.uint8)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0], dtype=np.float64)


def background_color(rng: np.random.Generator) -> Array:
    """Sample a BGR color for background and objects."""
    color = cloth_color(rng)
    return np.asarray(color.mean() + (color - color.mean()) * BACKGROUND_SATURATION)


def make_tile(rng: np.random.Generator, color: Array, pattern: str, contrast: float = 0.55) -> Canvas:
    """Return a (TILE, TILE, 3) texture tile: x runs along the limb, with the shading of a cylinder across it.

    Args:
        rng: draws the second color and the size of the pattern.
        color: (3,) BGR.
        pattern: ``plain``, ``rings`` around the limb, ``stripes`` along it, ``checks`` or ``noise``.
        contrast: distance of the second color of the pattern from the first, 0 to 1.
    """
    along, across = np.meshgrid(np.arange(TILE), np.arange(TILE))
    half = int(rng.choice((2, 3, 4)))
    weights = {
        "plain": np.zeros((TILE, TILE)),
        "rings": along // half % 2,
        "stripes": across // half % 2,
        "checks": (along // half + across // half) % 2,
        "noise": cv2.resize(rng.random((TILE // 3, TILE // 3)), (TILE, TILE)),
    }
    other = np.clip(color + (cloth_color(rng) - color) * contrast, 10, 250)
    shade = 1 - EDGE_SHADE * np.abs(2 * (across + 0.5) / TILE - 1) ** 2.5
    tile = color + (other - color) * np.asarray(weights[pattern], dtype=np.float64)[..., None]
    return np.asarray(tile * shade[..., None], dtype=np.float32)


def weighted_choice(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """Sample a key with probability proportional to its value."""
    values = np.array(list(weights.values()))
    return str(rng.choice(list(weights), p=values / values.sum()))
