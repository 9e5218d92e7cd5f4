"""Calibration: do scores say how well persons and keypoints are located?"""

from dataclasses import dataclass

import numpy as np

from pose.geometry import Array

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Mean score and mean quality of bins with equal numbers of samples, in ascending order of the scores.

    Attributes:
        scores: (B,) mean score.
        quality: (B,) mean quality, such as OKS.
        counts: (B,) number of samples.
    """

    scores: Array
    quality: Array
    counts: Array

    @property
    def error(self) -> float | None:
        """Expected calibration error: the mean of |score - quality| over the bins, weighted by their counts.

        None without samples or with scores outside of 0..1, which do not have the unit of the quality.
        """
        if not self.counts.sum() or self.scores.min() < 0 or self.scores.max() > 1:
            return None
        return float(np.average(np.abs(self.scores - self.quality), weights=self.counts))


def calibrate(scores: Array, quality: Array, bins: int = BINS) -> Calibration:
    """Bin samples by score.

    Bins with equal numbers of samples make no assumption on the range of the scores. Equal scores share a bin, so there
    are fewer bins where many scores are equal.

    Args:
        scores: (N,).
        quality: (N,) 0..1.
        bins: number of bins.
    """
    order = np.argsort(scores, kind="stable")
    scores, quality = scores[order], quality[order]
    starts = (np.arange(bins) * len(scores)) // bins
    starts = np.unique(np.searchsorted(scores, scores[starts])) if len(scores) else np.zeros(0, dtype=np.intp)
    counts = np.diff(np.append(starts, len(scores)))
    return Calibration(
        np.add.reduceat(scores, starts) / counts if len(scores) else np.zeros(0),
        np.add.reduceat(quality, starts) / counts if len(scores) else np.zeros(0),
        counts,
    )


def rank_correlation(scores: Array, quality: Array) -> float:
    """Return Spearman's rank correlation, with mean ranks for equal values; NaN if either is constant."""
    ranks = [_mean_ranks(values) for values in (scores, quality)]
    centered = [rank - rank.mean() for rank in ranks] if len(scores) else ranks
    norm = np.sqrt((centered[0] ** 2).sum() * (centered[1] ** 2).sum())
    return float((centered[0] * centered[1]).sum() / norm) if norm > 0 else float("nan")


def _mean_ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
