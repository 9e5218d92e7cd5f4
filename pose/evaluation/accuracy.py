"""Top-1/top-5 accuracy over a dataset."""

from dataclasses import dataclass

import torch

TOP_K = 5


@dataclass(frozen=True)
class Accuracy:
    """Top-1/top-5 accuracy over a dataset.

    Attributes:
        images: number of images.
        top1: fraction of the images whose class has the highest score, 0 to 1.
        top5: fraction whose class is among the five highest scores; None with fewer than five classes.
    """

    images: int
    top1: float
    top5: float | None

    def figures(self) -> dict[str, float]:
        """Return the accuracies by name; ``top5`` is left out where it is None."""
        return {"top1": self.top1} | ({} if self.top5 is None else {"top5": self.top5})

    def __str__(self) -> str:
        top5 = f"top-5 {100 * self.top5:.2f} %" if self.top5 is not None else f"no top-5 below {TOP_K} classes"
        return f"top-1 {100 * self.top1:.2f} %, {top5}"


def ranks(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the rank of each image's class among its scores, 0 for the highest.

    Ties count against the model: equal scores rank higher, so a model with constant output has no correct image.

    Args:
        scores: (N, C).
        labels: (N,) class indices.

    Returns:
        (N,) integers from 0 to C - 1; C - 1 also where the score of the class is NaN.
    """
    label_scores = scores.gather(1, labels[:, None])
    return scores.shape[1] - 1 - (scores < label_scores).sum(dim=1)


def accuracy(class_ranks: torch.Tensor, num_classes: int) -> Accuracy:
    """Return the accuracy from the (N,) `ranks` among ``num_classes``; 0 for no images."""
    top1, top5 = ((class_ranks < k).float().mean().item() if len(class_ranks) else 0.0 for k in (1, TOP_K))
    return Accuracy(len(class_ranks), top1, top5 if num_classes >= TOP_K else None)
