"""Bounding region of all random views of a person, and the resolution that it needs.

All views that `pose.datasets.augment.random_view` can draw of a person, for any random numbers, lie in one `Region` of
the image. A change of the random views needs a change of this module.
"""

import math
from typing import NamedTuple

import numpy as np

from pose.config.pose import AugmentConfig, InputConfig
from pose.datasets.augment import half_body_view
from pose.datasets.coco import PersonRecord
from pose.geometry import View, box_to_view
from pose.skeleton import Skeleton


class Region(NamedTuple):
    """Axis-aligned rectangle of an image, in integer pixels, with the resolution that training needs."""

    start: tuple[int, int]
    """(x, y) of the first pixel; start and end may be outside the image."""
    end: tuple[int, int]
    """(x, y) one past the last pixel."""
    pixels_per_input: float
    """Image pixels per pixel of the model input in the closest view, at least 1."""


def training_region(
    record: PersonRecord, skeleton: Skeleton, input_config: InputConfig, augment: AugmentConfig
) -> Region:
    """Return the region of all pixels that any training crop of this person interpolates from."""
    views = _base_views(record, skeleton, input_config, augment)
    closest, farthest = min(augment.scale_limits), max(augment.scale_limits)
    limit_deg = augment.rotation_limit_deg if augment.rotation_probability > 0 else 0.0
    width = input_config.size_wh[0]
    centers = np.array([view.center for view in views])
    half_sizes = np.array([_rotated_size(view.scale, limit_deg) for view in views]) * farthest / 2
    # The warp interpolates with one pixel outside the view; it is larger in an image reduced to the crop's resolution.
    half_sizes += np.array([[2 * max(1.0, farthest * view.scale[0] / width)] for view in views])
    start, end = np.floor((centers - half_sizes).min(axis=0)), np.ceil((centers + half_sizes).max(axis=0)) + 1
    pixels_per_input = max(1.0, closest * min(view.scale[0] for view in views) / width)
    return Region((int(start[0]), int(start[1])), (int(end[0]), int(end[1])), pixels_per_input)


def _base_views(
    record: PersonRecord, skeleton: Skeleton, input_config: InputConfig, augment: AugmentConfig
) -> list[View]:
    """Return the views before scale, rotation and flip: the person's, and those of possible half bodies."""
    full_body = box_to_view(record.bbox_xywh, input_config.aspect_ratio, input_config.padding)
    labeled = np.flatnonzero(record.visibility > 0)
    if augment.half_body_probability == 0 or len(labeled) <= augment.half_body_min_keypoints:
        return [full_body]
    halves = (
        half_body_view(record.keypoints_image, labeled, skeleton, prefer_upper, input_config.aspect_ratio)
        for prefer_upper in (True, False)
    )
    return [full_body, *(half for half in halves if half is not None)]


def _rotated_size(scale: tuple[float, float], limit_deg: float) -> tuple[float, float]:
    """Return width and height of the axis-aligned box around a view at all rotations up to +-``limit_deg``."""
    return _max_projection(*scale, limit_deg), _max_projection(*scale[::-1], limit_deg)


def _max_projection(along: float, across: float, limit_deg: float) -> float:
    """Return the maximum of ``along * cos + across * sin`` over angles from 0 to the limit."""
    angle = min(math.radians(limit_deg), math.atan2(across, along))  # the maximum is at the diagonal
    return along * math.cos(angle) + across * math.sin(angle)
