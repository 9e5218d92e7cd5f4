"""How much of an image training can ever show of a person, and how finely.

All views that `pose.datasets.augment.random_view` can draw of a person, for any random numbers, lie within one
`Region` of the image. The two modules belong together: what one draws, the other must bound.
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
    """A part of an image, upright, in whole image pixels."""

    start: tuple[int, int]
    """(x, y) of its first pixel; may lie outside the image, as may the end."""
    end: tuple[int, int]
    """(x, y) behind its last pixel."""
    pixels_per_input: float
    """Image pixels that one pixel of the model's input covers in the closest view, or 1 if they are fewer."""


def training_region(
    record: PersonRecord, skeleton: Skeleton, input_config: InputConfig, augment: AugmentConfig
) -> Region:
    """Return the region that holds every pixel which a training crop of this person may be interpolated from."""
    views = _unvaried_views(record, skeleton, input_config, augment)
    closest, farthest = min(augment.scale_limits), max(augment.scale_limits)
    limit_deg = augment.rotation_limit_deg if augment.rotation_probability > 0 else 0.0
    width = input_config.size_wh[0]
    centers = np.array([view.center for view in views])
    reach = np.array([_reach(view.scale, limit_deg) for view in views]) * farthest / 2
    # The warp interpolates with a pixel beyond the view; of an image reduced to the crop's resolution, a larger one.
    reach += np.array([[2 * max(1.0, farthest * view.scale[0] / width)] for view in views])
    start, end = np.floor((centers - reach).min(axis=0)), np.ceil((centers + reach).max(axis=0)) + 1
    pixels_per_input = max(1.0, closest * min(view.scale[0] for view in views) / width)
    return Region((int(start[0]), int(start[1])), (int(end[0]), int(end[1])), pixels_per_input)


def _unvaried_views(
    record: PersonRecord, skeleton: Skeleton, input_config: InputConfig, augment: AugmentConfig
) -> list[View]:
    """Return the views that scale, rotation and flip start from: of the person, and of each half that may be shown."""
    whole = box_to_view(record.bbox_xywh, input_config.aspect_ratio, input_config.padding)
    labelled = np.flatnonzero(record.visibility > 0)
    if augment.half_body_probability == 0 or len(labelled) <= augment.half_body_min_keypoints:
        return [whole]
    halves = (
        half_body_view(record.keypoints_image, labelled, skeleton, prefer_upper, input_config.aspect_ratio)
        for prefer_upper in (True, False)
    )
    return [whole, *(half for half in halves if half is not None)]


def _reach(scale: tuple[float, float], limit_deg: float) -> tuple[float, float]:
    """Return width and height of the upright box around a view at all rotations of up to +-``limit_deg``."""
    return _longest_shadow(*scale, limit_deg), _longest_shadow(*scale[::-1], limit_deg)


def _longest_shadow(along: float, across: float, limit_deg: float) -> float:
    """Return the largest ``along * cos + across * sin`` of the angles from 0 to the limit."""
    angle = min(math.radians(limit_deg), math.atan2(across, along))  # the diagonal at most
    return along * math.cos(angle) + across * math.sin(angle)
