"""Top-k accuracy, against hand-made cases and torch's own topk."""

import pytest
import torch

from pose.evaluation.accuracy import Accuracy, accuracy, ranks

SCORES = torch.tensor(
    [
        [9.0, 1, 2, 3, 4, 5, 6],  # 0 is first
        [9.0, 1, 2, 3, 4, 5, 6],  # 6 is second
        [9.0, 1, 2, 3, 4, 5, 6],  # 3 is fifth
        [9.0, 1, 2, 3, 4, 5, 6],  # 2 is sixth
    ]
)
LABELS = torch.tensor([0, 6, 3, 2])


def test_a_hand_made_case():
    found = accuracy(ranks(SCORES, LABELS), num_classes=7)

    assert ranks(SCORES, LABELS).tolist() == [0, 1, 4, 5]
    assert found == Accuracy(images=4, top1=0.25, top5=0.75)
    assert str(found) == "top-1 25.00 %, top-5 75.00 %"
    assert found.figures() == {"top1": 0.25, "top5": 0.75}


@pytest.mark.parametrize("k", [1, 5])
def test_the_rank_agrees_with_topk(k):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(500, 9, generator=generator)
    labels = torch.randint(0, 9, (500,), generator=generator)

    among = (scores.topk(k, dim=1).indices == labels[:, None]).any(dim=1)

    assert torch.equal(ranks(scores, labels) < k, among)


@pytest.mark.parametrize(("classes", "top5"), [(2, None), (4, None), (5, 1.0), (6, 0.5)])
def test_top_5_needs_five_classes(classes, top5):
    scores = torch.arange(classes).float().repeat(2, 1)

    found = accuracy(ranks(scores, torch.tensor([classes - 1, 0])), classes)

    assert (found.top1, found.top5) == (0.5, top5)
    assert ("no top-5 below 5 classes" in str(found)) == (top5 is None)
    assert ("top5" in found.figures()) == (top5 is not None)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_model_that_says_the_same_of_every_class_knows_none(value):
    found = ranks(torch.full((3, 8), value), torch.tensor([0, 4, 7]))

    assert found.tolist() == [7, 7, 7]


def test_of_no_images_nothing_is_known():
    assert accuracy(torch.zeros(0, dtype=torch.int64), 10) == Accuracy(0, 0.0, 0.0)
