"""Top-k accuracy of a classifier."""

from dataclasses import dataclass

import torch

TOP = 5


@dataclass(frozen=True)
class Accuracy:
    """What share of images a model knows.

    Attributes:
        images: how many there were.
        top1: share whose class has the highest score, 0 to 1.
        top5: share whose class is among the five highest; None where there are fewer than five classes.
    """

    images: int
    top1: float
    top5: float | None

    def figures(self) -> dict[str, float]:
        """Return the shares by their names."""
        return {"top1": self.top1} | ({} if self.top5 is None else {"top5": self.top5})

    def __str__(self) -> str:
        top5 = f"top-5 {100 * self.top5:.2f} %" if self.top5 is not None else f"no top-5 below {TOP} classes"
        return f"top-1 {100 * self.top1:.2f} %, {top5}"


def ranks(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the place of each image's class among the scores, 0 for the highest.

    Equal scores count as higher, so that a model that says the same of every class knows none.

    Args:
        scores: (N, C).
        labels: (N,) class of each.

    Returns:
        (N,) integers from 0 to C - 1; C - 1 too where a score is not a number.
    """
    own = scores.gather(1, labels[:, None])
    return scores.shape[1] - 1 - (scores < own).sum(dim=1)


def accuracy(found: torch.Tensor, num_classes: int) -> Accuracy:
    """Return the accuracy of (N,) ``ranks`` among ``num_classes``; of no images it is 0."""
    share = [(found < k).float().mean().item() if len(found) else 0.0 for k in (1, TOP)]
    return Accuracy(len(found), share[0], share[1] if num_classes >= TOP else None)
