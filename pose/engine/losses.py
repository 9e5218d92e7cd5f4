"""Losses on heatmaps. Both are means over batch and keypoints of per-map terms, so that parts of a batch (accumulation
steps, processes) average to the loss of the whole.
"""

import torch
from torch.nn import functional as F


def mse(maps: torch.Tensor, heatmaps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over keypoints of half the squared error (protocol; paper, section 6: MSE on heatmaps).

    Args:
        maps: (B, K, H, W) the model's output.
        heatmaps: (B, K, H, W) targets of peak 1.
        weights: (B, K) 1 where there is a target, else 0.
    """
    squared = (maps.float() - heatmaps).square().mean(dim=(2, 3))
    return 0.5 * (squared * weights.square()).mean()


def cross_entropy(maps: torch.Tensor, heatmaps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between each map's softmax over its pixels and the target scaled to sum 1.

    It weighs every map alike, however small its peak, so a model leaves the all-zero plateau of MSE sooner. The model's
    ``heatmaps`` turn its logits back into maps of peak about 1. Arguments as `mse`.
    """
    target = heatmaps.flatten(2)
    total = target.sum(dim=2).clamp_min(torch.finfo(target.dtype).eps)
    log_probability = F.log_softmax(maps.float().flatten(2), dim=2)
    per_map = -(target * log_probability).sum(dim=2) / total
    return (per_map * weights).mean()


LOSSES = {"mse": mse, "cross_entropy": cross_entropy}
