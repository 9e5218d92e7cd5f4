"""Crop geometry: person box to view, view to affine matrix, points through a matrix.

Frames: *image* is the pixels of the image, *input* the crop that the model takes (192 wide, 256 high), *heatmap* the
output grid of the model (48 wide, 64 high). All share one convention: x to the right, y down, integer coordinates at
pixel centers, and **no half-pixel offset** between input and heatmap. This is the convention of SimpleBaseline and
HRNet, with which published COCO results are measured; the formulas reproduce those of their public code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
"""Array of float64, the type of coordinates and matrices."""
Float32 = NDArray[np.float32]
"""Array of float32, the type of heatmaps and scores."""

MIN_SIDE = 1e-3
"""Side in pixels that a box must have at least: a view divides by it."""
MAX_COORDINATE = 2**24
"""Largest coordinate in pixels: float32 numbers beyond it are not exact to a pixel."""


@dataclass(frozen=True)
class View:
    """Region of an image that a crop shows, with rotation and flip.

    Attributes:
        center: (x, y) in image pixels.
        scale: (width, height) in image pixels.
        rotation_deg: clockwise rotation of the view in the image; in the crop, the person is rotated counterclockwise.
        flip: whether the crop is flipped left to right about ``center``.
    """

    center: tuple[float, float]
    scale: tuple[float, float]
    rotation_deg: float = 0.0
    flip: bool = False

    @property
    def area(self) -> float:
        """Area in square image pixels, used as the person's area in OKS-NMS."""
        return self.scale[0] * self.scale[1]


def box_to_view(bbox_xywh: ArrayLike, aspect_ratio: float, padding: float = 1.25) -> View:
    """Return the upright view of a box: its short side extended to ``aspect_ratio`` (w / h), then both sides padded.

    Args:
        bbox_xywh: (4,) left, top, width, height in image pixels.
        aspect_ratio: width / height of the model input.
        padding: factor by which both sides grow.
    """
    x, y, w, h = np.asarray(bbox_xywh, dtype=np.float64)
    width, height = max(w, h * aspect_ratio), max(h, w / aspect_ratio)
    return View((float(x + w / 2), float(y + h / 2)), (float(width * padding), float(height * padding)))


def clean_box(bbox_xywh: ArrayLike, image_wh: tuple[float, float]) -> Array | None:
    """Clip a box to the image; return None if nothing is left, or one point, which has no view.

    As in the reference code, the far edge is inclusive, so the box becomes one pixel shorter. Used for training boxes
    and ground-truth boxes. Source: SimpleBaseline/HRNet, ``_load_coco_person_keypoint_annotation``.
    """
    x, y, w, h = np.asarray(bbox_xywh, dtype=np.float64)
    x1, y1 = max(0.0, x), max(0.0, y)
    x2 = min(image_wh[0] - 1.0, x1 + max(0.0, w - 1))
    y2 = min(image_wh[1] - 1.0, y1 + max(0.0, h - 1))
    w, h = x2 - x1, y2 - y1
    return np.array([x1, y1, w, h]) if min(w, h) >= 0 and max(w, h) >= MIN_SIDE else None


def is_empty(bbox_xywh: Sequence[float]) -> bool:
    """Return whether a box (4,) has no area, or is so small that it has no view."""
    w, h = bbox_xywh[2:]
    return min(w, h) <= 0 or max(w, h) < MIN_SIDE


def view_to_matrix(view: View, output_wh: tuple[int, int]) -> Array:
    """Return the (2, 3) affine matrix from image pixels to an output grid of ``output_wh`` (width, height).

    It rotates about the center of the view, scales by the ratio of the widths and includes the flip. With the input
    size it is image_to_input, the warp of the crop; with the heatmap size it is image_to_heatmap, whose `invert` is
    heatmap_to_image.
    """
    angle = np.deg2rad(view.rotation_deg)
    factor = output_wh[0] / view.scale[0]
    cos, sin = np.cos(angle) * factor, np.sin(angle) * factor
    linear = np.array([[cos, sin], [-sin, cos]])
    if view.flip:
        linear[:, 0] *= -1
    offset = np.array([output_wh[0] / 2, output_wh[1] / 2]) - linear @ np.asarray(view.center)
    return np.column_stack([linear, offset])


def invert(matrix: ArrayLike) -> Array:
    """Return the inverse of affine matrices (..., 2, 3)."""
    matrix = np.asarray(matrix, dtype=np.float64)
    linear = np.linalg.inv(matrix[..., :2])
    return np.concatenate([linear, -linear @ matrix[..., 2:]], axis=-1)


def compose(outer: ArrayLike, inner: ArrayLike) -> Array:
    """Return the (2, 3) affine matrix that applies ``inner`` first and then ``outer``."""
    outer, inner = np.asarray(outer, dtype=np.float64), np.asarray(inner, dtype=np.float64)
    composed: Array = outer[:, :2] @ inner
    composed[:, 2] += outer[:, 2]
    return composed


def pixel_blocks(block_wh: float | ArrayLike, corner: ArrayLike = (0, 0)) -> Array:
    """Return the (2, 3) matrix from a downscaled image, each pixel of which averages a block, to image pixels.

    Centers map to centers: pixel 0 of an image reduced by 2 is at 0.5, between the two pixels that it averages.

    Args:
        block_wh: width and height of a block in image pixels, or one number for both.
        corner: (x, y) of the first image pixel of the first block.
    """
    block = np.broadcast_to(np.asarray(block_wh, dtype=np.float64), 2)
    return np.column_stack([np.diag(block), np.asarray(corner) + (block - 1) / 2])


def transform_points(points: ArrayLike, matrix: ArrayLike) -> Array:
    """Apply affine matrices (..., 2, 3) to points (..., P, 2) with the same leading axes."""
    matrix = np.asarray(matrix, dtype=np.float64)
    transformed: Array = np.asarray(points) @ np.swapaxes(matrix[..., :2], -1, -2) + matrix[..., None, :, 2]
    return transformed


def iou(bboxes_xywh: ArrayLike, others_xywh: ArrayLike) -> Array:
    """Return the intersection over union (...) of boxes (..., 4); leading axes broadcast; 0 where both are empty."""
    boxes, others = np.asarray(bboxes_xywh, dtype=np.float64), np.asarray(others_xywh, dtype=np.float64)
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., :2] + boxes[..., 2:], others[..., :2] + others[..., 2:])
    intersection = (high - low).clip(0).prod(axis=-1)
    union = boxes[..., 2:].prod(axis=-1) + others[..., 2:].prod(axis=-1) - intersection
    return np.asarray(intersection / np.maximum(union, np.finfo(np.float64).tiny))
