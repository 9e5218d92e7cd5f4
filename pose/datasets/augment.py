"""Data augmentation: random scale, rotation, flip and half body, and color augmentation.

Source: paper, section 6 (flip, rotation +-45 degrees, scale 0.65 to 1.35, half body); order and probabilities as in
HRNet's public code. All randomness comes from the generator that is passed in.
"""

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pose.config.pose import AugmentConfig
from pose.geometry import MIN_SIDE, Array, View, box_to_view
from pose.images import Image
from pose.skeleton import Skeleton

HALF_BODY_PADDING = 1.5
"""Padding of a half-body box, instead of the person's padding."""


def random_view(
    view: View,
    keypoints_image: Array,
    visibility: NDArray[np.uint8],
    skeleton: Skeleton,
    options: AugmentConfig,
    rng: np.random.Generator,
) -> View:
    """Augment a person's upright view: half body, then scale, rotation and flip.

    Args:
        view: upright view of the person's box.
        keypoints_image: (K, 2) in image pixels.
        visibility: (K,) greater than 0 where labeled.
        skeleton: defines the half-body groups.
        options: probabilities and ranges.
        rng: source of all randomness.
    """
    labeled = np.flatnonzero(visibility > 0)
    if len(labeled) > options.half_body_min_keypoints and rng.random() < options.half_body_probability:
        prefer_upper = rng.random() < options.half_body_upper_probability
        view = half_body_view(keypoints_image, labeled, skeleton, prefer_upper, view.scale[0] / view.scale[1]) or view
    smallest, largest = options.scale_limits
    factor = min(max(rng.normal(1, options.scale_std), smallest), largest)
    rotation_deg = 0.0
    if rng.random() < options.rotation_probability:
        limit = options.rotation_limit_deg
        rotation_deg = min(max(rng.normal(0, options.rotation_std_deg), -limit), limit)
    flip = bool(rng.random() < options.flip_probability)
    return replace(view, scale=(view.scale[0] * factor, view.scale[1] * factor), rotation_deg=rotation_deg, flip=flip)


def half_body_view(
    keypoints_image: Array,
    labeled: NDArray[np.intp],
    skeleton: Skeleton,
    prefer_upper: bool,
    aspect_ratio: float,
) -> View | None:
    """Return the view around the labeled keypoints of the upper or lower body, or None if there are too few.

    The view is centered on the mean of the keypoints. A preferred group with fewer than three labeled keypoints is
    replaced by the other group; if both have fewer, the upper body is used, which needs two.

    Args:
        keypoints_image: (K, 2) in image pixels.
        labeled: indices of the labeled keypoints.
        skeleton: defines the half-body groups.
        prefer_upper: prefer the upper to the lower body.
        aspect_ratio: width / height of the view.
    """
    is_upper = np.isin(labeled, skeleton.upper_body)
    upper, lower = labeled[is_upper], labeled[~is_upper]
    group = upper if (prefer_upper and len(upper) > 2) or len(lower) <= 2 else lower
    if len(group) < 2:
        return None
    points = keypoints_image[group]
    corner = points.min(axis=0)
    view = box_to_view(np.concatenate([corner, points.max(axis=0) - corner]), aspect_ratio, HALF_BODY_PADDING)
    x, y = points.mean(axis=0)
    return replace(view, center=(float(x), float(y))) if view.scale[0] >= MIN_SIDE else None


def photometric(preset: str) -> Callable[[Image, np.random.Generator], Image]:
    """Return a color augmentation function; it never moves pixels.

    Args:
        preset: ``light`` (brightness, contrast, hue, blur) or ``strong`` (also noise, JPEG artifacts, random patches).

    Returns:
        function of a crop (h, w, 3) uint8 RGB and a generator, which returns a new crop.
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # otherwise the import checks for updates over the network
    import albumentations as A

    transforms: list[A.BasicTransform] = [
        A.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.04, p=0.8),
        A.ToGray(p=0.05),
        A.GaussianBlur(blur_limit=(3, 5), p=0.1),
    ]
    if preset == "strong":
        transforms += [
            A.GaussNoise(std_range=(0.02, 0.1), p=0.2),
            A.ImageCompression(quality_range=(30, 80), p=0.2),
            A.CoarseDropout(
                num_holes_range=(1, 3),
                hole_height_range=(0.08, 0.3),
                hole_width_range=(0.08, 0.3),
                fill="random",
                p=0.4,
            ),
        ]
    compose = A.Compose(transforms)

    def apply(crop_rgb: Image, rng: np.random.Generator) -> Image:
        compose.set_random_seed(int(rng.integers(2**31)))
        return np.asarray(compose(image=crop_rgb)["image"], dtype=np.uint8)

    return apply
