"""Top-1/top-5 accuracy against hand-made cases and torch.topk."""

import pytest
import torch

from pose.evaluation.accuracy import Accuracy, accuracy, ranks

SCORES = torch.tensor(
    [
        [9.0, 1, 2, 3, 4, 5, 6],  # class 0 has rank 0
        [9.0, 1, 2, 3, 4, 5, 6],  # class 6 has rank 1
        [9.0, 1, 2, 3, 4, 5, 6],  # class 3 has rank 4
        [9.0, 1, 2, 3, 4, 5, 6],  # class 2 has rank 5
    ]
)
LABELS = torch.tensor([0, 6, 3, 2])


def test_accuracy_of_a_hand_made_case():
    result = accuracy(ranks(SCORES, LABELS), num_classes=7)

    assert ranks(SCORES, LABELS).tolist() == [0, 1, 4, 5]
    assert result == Accuracy(images=4, top1=0.25, top5=0.75)
    assert str(result) == "top-1 25.00 %, top-5 75.00 %"
    assert result.figures() == {"top1": 0.25, "top5": 0.75}


@pytest.mark.parametrize("k", [1, 5])
def test_ranks_agree_with_topk(k):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(500, 9, generator=generator)
    labels = torch.randint(0, 9, (500,), generator=generator)

    in_top_k = (scores.topk(k, dim=1).indices == labels[:, None]).any(dim=1)

    assert torch.equal(ranks(scores, labels) < k, in_top_k)


@pytest.mark.parametrize(("classes", "top5"), [(2, None), (4, None), (5, 1.0), (6, 0.5)])
def test_top5_needs_five_classes(classes, top5):
    scores = torch.arange(classes).float().repeat(2, 1)

    result = accuracy(ranks(scores, torch.tensor([classes - 1, 0])), classes)

    assert (result.top1, result.top5) == (0.5, top5)
    assert ("no top-5 below 5 classes" in str(result)) == (top5 is None)
    assert ("top5" in result.figures()) == (top5 is not None)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_constant_or_nan_scores_give_the_last_rank(value):
    assert ranks(torch.full((3, 8), value), torch.tensor([0, 4, 7])).tolist() == [7, 7, 7]


def test_accuracy_of_no_images_is_0():
    assert accuracy(torch.zeros(0, dtype=torch.int64), 10) == Accuracy(0, 0.0, 0.0)
