"""Person boxes as users give them: formats, checks, and a warning for boxes that leave the image."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from pose.errors import DataError, near_name
from pose.geometry import MAX_COORDINATE, MIN_SIDE, Array, Float32
from pose.images import Image

BoxesFormat = Literal["xywh", "xyxy"]
"""Left, top, width, height; or left, top, right, bottom. In pixels."""
WHOLE_IMAGE = "image"
"""In place of boxes: the whole image is one person."""
MIN_INSIDE = 0.5
"""Minimum fraction of a box inside the image; below it a warning says so. Real persons are cut off less."""


def parse_boxes(boxes: ArrayLike, boxes_format: BoxesFormat = "xywh") -> Float32:
    """Return boxes as (N, 4) xywh float32.

    Args:
        boxes: (N, 4) in pixels; an empty list is no person.
        boxes_format: what the four numbers are.

    Raises:
        DataError: the boxes are not (N, 4) finite numbers, a size is not positive, or the format is unknown.
    """
    if boxes_format not in get_args(BoxesFormat):
        raise DataError(
            f"predictor: expected boxes_format 'xywh' or 'xyxy', got {boxes_format!r}"
            f"{near_name(str(boxes_format), get_args(BoxesFormat))}"
        )
    values = _numbers(boxes)
    if values.shape in ((0,), (0, 4)):
        return np.zeros((0, 4), dtype=np.float32)
    is_shape = values.ndim == 2 and values.shape[1] == 4
    if is_shape and boxes_format == "xyxy":
        values[:, 2:] -= values[:, :2]
    # NaN compares false.
    if not is_shape or not np.abs(values).max() <= MAX_COORDINATE or not values[:, 2:].min() >= MIN_SIDE:
        numbers = "left, top, width, height" if boxes_format == "xywh" else "left, top, right, bottom"
        raise DataError(
            f"predictor: expected boxes (N, 4) as {numbers} in pixels with positive sizes, got "
            f"{np.asarray(boxes).tolist() if values.size <= 8 else values.shape}"
        )
    return values.astype(np.float32)


def _numbers(boxes: Any) -> Array:
    """Return a new array of float64.

    Raises:
        DataError: the boxes are not numbers, complex, masked, or of rows with different lengths.
    """
    rows = boxes if isinstance(boxes, (list, tuple)) else [boxes]
    try:
        values = np.asarray(boxes)
        if values.dtype.kind in "iuf" and not any(map(np.ma.isMaskedArray, rows)):
            return np.array(values, dtype=np.float64)
        reason = "masked" if values.dtype.kind in "iuf" else values.dtype.name
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # RuntimeError: a tensor with a gradient
        reason = " ".join(str(error).split())
    got = " ".join(repr(boxes).split())
    raise DataError(f"predictor: expected boxes (N, 4) as numbers, got {got:.80} ({reason:.120})")


def whole_image(image: Image) -> Float32:
    """Return the whole image as the one box (1, 4) xywh."""
    return np.array([[0, 0, image.shape[1], image.shape[0]]], dtype=np.float32)


def resolve_boxes(boxes: Any, image: Image, boxes_format: BoxesFormat) -> Float32:
    """Return the boxes (N, 4) xywh of an image: the whole image for the word ``image``, else as `parse_boxes`."""
    return whole_image(image) if isinstance(boxes, str) and boxes == WHOLE_IMAGE else parse_boxes(boxes, boxes_format)


def warn_outside(boxes: Sequence[Float32], images: Sequence[Image], stacklevel: int) -> None:
    """Warn about boxes of which more than half lies outside the image: most often another format, or another image.

    Args:
        boxes: for each image (N_i, 4) xywh in its pixels.
        images: (H, W, 3) each.
        stacklevel: as of `warnings.warn`, 1 for the caller of this function.
    """
    for image, bboxes_xywh in zip(images, boxes, strict=True):
        width, height = image.shape[1], image.shape[0]
        corners = np.stack([bboxes_xywh[:, :2], bboxes_xywh[:, :2] + bboxes_xywh[:, 2:]])
        inside_wh = np.diff(corners.clip(0, (width, height)), axis=0)[0]
        inside = inside_wh.prod(axis=1) / bboxes_xywh[:, 2:].prod(axis=1)
        outside = np.flatnonzero(inside < MIN_INSIDE)
        if len(outside):
            box = bboxes_xywh[outside[0]].round(1).tolist()
            warnings.warn(
                f"predictor: {len(outside)} of {len(bboxes_xywh)} boxes lie more than half outside the image of "
                f"{width}x{height} pixels (box {outside[0]}: {box} as left, top, width, height); "
                "for left, top, right, bottom pass boxes_format='xyxy'",
                stacklevel=stacklevel + 1,
            )
