"""Losses on heatmaps.

Each is a mean over batch and keypoints of per-map terms, so that the losses of the parts of a batch (accumulation
steps, ranks) average to the loss of the whole batch.
"""

import torch
from torch.nn import functional as F


def mse(maps: torch.Tensor, heatmaps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Half the mean squared error of heatmaps (paper, section 6; factor and weighting as SimpleBaseline and HRNet).

    Args:
        maps: (B, K, H, W) output of the model.
        heatmaps: (B, K, H, W) targets with peak 1.
        weights: (B, K) 1 if the keypoint has a target, else 0.
    """
    squared = (maps.float() - heatmaps).square().mean(dim=(2, 3))
    return 0.5 * (squared * weights.square()).mean()


def cross_entropy(maps: torch.Tensor, heatmaps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between the softmax over each map's pixels and the target normalized to sum 1.

    Every map has the same weight, however small its peak, so that a model leaves the all-zero plateau of MSE sooner.
    `PoseNet.heatmaps` converts the logits to maps with peaks near 1. Arguments as for `mse`.
    """
    target = heatmaps.flatten(2)
    total = target.sum(dim=2).clamp_min(torch.finfo(target.dtype).eps)
    log_probability = F.log_softmax(maps.float().flatten(2), dim=2)
    per_map = -(target * log_probability).sum(dim=2) / total
    return (per_map * weights).mean()


LOSSES = {"mse": mse, "cross_entropy": cross_entropy}
"""Loss functions by the values of ``train.loss``."""
