"""Distillation: training targets from the labels and from a teacher's heatmaps (``train.teacher``).

The teacher sees each person once, in the upright crop (`pose.engine.teacher_heatmaps`); its heatmaps are warped to the
augmented view of a sample. Measured on 209 persons of COCO, these targets are nearer to the labels than those that the
teacher gives for the augmented crop itself (mean OKS of a keypoint 0.845 against 0.831), and cost a tenth of the time.

A teacher's heatmap of a keypoint is read as a probability map over its pixels. The target of a labeled keypoint is a
mix of its Gaussian and this map; a keypoint without a label gets the map alone where the teacher is confident. As the
heatmap losses are linear in the target up to a constant, training on the mix equals training on the weighted sum of two
losses, one for the labels and one for the teacher (Zhang et al., Fast Human Pose Estimation, CVPR 2019).
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.config.pose import InputConfig
from pose.geometry import Array, Float32, box_to_view, compose, invert, view_to_matrix

NOISE_LEVEL = 0.1
"""Pixels below this fraction of a teacher map's peak are set to zero: background noise of a map of 3,072 pixels can sum
to more than its peak."""


@dataclass(frozen=True)
class TeacherHeatmaps:
    """Heatmaps of a teacher for N persons in upright crops, and how to use them.

    Attributes:
        maps: (N, K, H, W) uint8, 255 for a peak of 1; may be memory-mapped.
        input_config: the teacher's input, which may have another size than the student's; its ``sigma`` is the standard
            deviation of the label's Gaussians in heatmap pixels.
        weight: fraction of the teacher in the targets of labeled keypoints, 0 to 1.
        threshold: keypoints whose map has a lower peak, 0 to 1, get nothing from the teacher.
    """

    maps: NDArray[np.uint8]
    input_config: InputConfig
    weight: float
    threshold: float

    def mix(
        self,
        row: int,
        bbox_xywh: Array,
        image_to_view: Array,
        order: NDArray[np.intp] | None,
        heatmaps: Float32,
        weights: Float32,
    ) -> tuple[Float32, Float32]:
        """Mix the targets of the labels with the teacher's heatmaps of a person.

        Args:
            row: row of the person.
            bbox_xywh: (4,) box of the person in image pixels.
            image_to_view: (2, 3) matrix from image pixels to heatmap pixels of the sample's view.
            order: (K,) order of the keypoints in a flipped view; None if the view is not flipped.
            heatmaps: (K, h, w) targets of the labels: Gaussians with peak 1.
            weights: (K,) 1 if the keypoint is labeled and in the view, else 0.

        Returns:
            heatmaps (K, h, w) and weights (K,), which are also 1 for keypoints that only the teacher shows.
        """
        upright = box_to_view(bbox_xywh, self.input_config.aspect_ratio, self.input_config.padding)
        upright_to_image = invert(view_to_matrix(upright, self.input_config.heatmap_wh))
        height, width = heatmaps.shape[1:]
        maps = warp_heatmaps(self.maps[row], compose(image_to_view, upright_to_image), (width, height))
        if order is not None:
            maps = maps[order]
        return mix_targets(heatmaps, weights, maps, self.input_config.sigma, self.weight, self.threshold)


def warp_heatmaps(maps: NDArray[np.uint8], upright_to_view: Array, view_wh: tuple[int, int]) -> Float32:
    """Warp heatmaps to another view, without noise, each Gaussian with the width that it has upright.

    A map warped by a view that magnifies s times has Gaussians of s times the width; its power s^2 has the old width
    and the same peak.

    Args:
        maps: (K, H, W) uint8, 255 for 1.
        upright_to_view: (2, 3) matrix from pixels of the maps to heatmap pixels of the view.
        view_wh: width w and height h of the view's heatmaps.

    Returns:
        (K, h, w) float32; zero outside of the maps.
    """
    peaks = maps.max(axis=(1, 2), keepdims=True).astype(np.float32)
    clean = np.where(maps >= np.maximum(NOISE_LEVEL * peaks, 1), maps / np.maximum(peaks, 1), 0).astype(np.float32)
    warped = np.stack([cv2.warpAffine(map_, upright_to_view, view_wh) for map_ in clean])
    magnification = abs(np.linalg.det(upright_to_view[:, :2]))  # s^2: a ratio of areas
    sharpened: Float32 = warped**magnification * (peaks / 255)
    return sharpened


def mix_targets(
    heatmaps: Float32, weights: Float32, teacher_maps: Float32, sigma: float, teacher_weight: float, threshold: float
) -> tuple[Float32, Float32]:
    """Mix the targets of the labels with a teacher's heatmaps in the same view.

    Args:
        heatmaps: (K, H, W) targets of the labels: Gaussians with peak 1.
        weights: (K,) 1 if the keypoint is labeled and in the view, else 0.
        teacher_maps: (K, H, W) heatmaps of the teacher, without noise.
        sigma: standard deviation of the Gaussians in heatmap pixels; each teacher map is scaled to the sum of such a
            Gaussian, so that a confident teacher has peaks near 1.
        teacher_weight: fraction of the teacher in the targets of labeled keypoints, 0 to 1.
        threshold: keypoints whose teacher map has a lower peak get nothing from the teacher.

    Returns:
        heatmaps (K, H, W) and weights (K,), which are also 1 for keypoints that only the teacher shows.
    """
    totals = teacher_maps.sum(axis=(1, 2))
    confident = (teacher_maps.max(axis=(1, 2)) >= threshold) & (totals > 0)
    soft = teacher_maps * (2 * math.pi * sigma**2 / np.where(confident, totals, 1))[:, None, None]
    labeled = weights > 0
    share = (np.where(labeled, teacher_weight, 1) * confident)[:, None, None]
    mixed = ((1 - share) * heatmaps + share * soft).astype(np.float32)
    return mixed, (labeled | confident).astype(np.float32)
