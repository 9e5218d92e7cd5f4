"""Distillation: targets from the labels and from a teacher's heatmaps (``train.teacher``, `pose.inference.teacher`).

A teacher's heatmap of a keypoint is read as a probability map over its pixels. The target of a labeled keypoint is a
mix of its Gaussian and this map; a keypoint without a label gets the map alone where the teacher is confident. As the
heatmap losses are linear in the target up to a constant, training on the mix equals training on the weighted sum of two
losses, one for the labels and one for the teacher (Zhang et al., Fast Human Pose Estimation, CVPR 2019).
"""

import math

import torch
from torch import Tensor

NOISE_LEVEL = 0.1
"""Pixels below this fraction of a teacher map's peak are set to zero: background noise of a map of 3,072 pixels can sum
to more than its peak."""


def mix_targets(
    heatmaps: Tensor, weights: Tensor, teacher_maps: Tensor, sigma: float, teacher_weight: float, threshold: float
) -> tuple[Tensor, Tensor]:
    """Mix the targets of the labels with a teacher's heatmaps.

    Args:
        heatmaps: (B, K, H, W) targets of the labels: Gaussians with peak 1.
        weights: (B, K) 1 if the keypoint is labeled and in the crop, else 0.
        teacher_maps: (B, K, H, W) heatmaps of the teacher.
        sigma: standard deviation of the Gaussians in heatmap pixels; each teacher map is scaled to the sum of such a
            Gaussian, so that a confident teacher has peaks near 1.
        teacher_weight: fraction of the teacher in the targets of labeled keypoints, 0 to 1.
        threshold: keypoints whose teacher map has a lower peak get nothing from the teacher.

    Returns:
        heatmaps (B, K, H, W) and weights (B, K), which are also 1 for keypoints that only the teacher shows.
    """
    peaks = teacher_maps.flatten(2).amax(2)
    confident = peaks >= max(threshold, torch.finfo(torch.float32).tiny)
    clean = torch.where(teacher_maps >= NOISE_LEVEL * peaks[..., None, None], teacher_maps.clamp_min(0), 0)
    total = clean.sum((2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).eps)
    soft = clean * (2 * math.pi * sigma**2 / total)
    labeled = weights > 0
    share = torch.where(labeled, teacher_weight, 1.0) * confident
    mixed = torch.lerp(heatmaps, soft, share[..., None, None])
    return mixed, (labeled | confident).to(weights.dtype)
