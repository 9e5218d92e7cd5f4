"""Duplicates: one of two persons with nearly the same keypoints is dropped."""

import numpy as np
import pytest

from pose.evaluation.oks import oks
from pose.inference.duplicates import MAX_OKS, distinct_persons
from pose.skeleton import COCO

BOX = (0.0, 0.0, 100.0, 200.0)


def shifted(dx: float) -> np.ndarray:
    """Keypoints of a person, moved to the right."""
    return np.random.default_rng(0).uniform((0, 0), (100, 200), (17, 2)) + np.array([dx, 0])


def oks_after(dx: float) -> float:
    return oks(shifted(0), 20_000, shifted(dx)[None], [20_000], COCO.sigmas)[0]


@pytest.mark.parametrize(("dx", "kept"), [(0, [1]), (5, [1]), (40, [0, 1])])
def test_the_person_of_lower_score_is_dropped_above_the_maximum_oks(dx, kept):
    assert (oks_after(dx) > MAX_OKS) == (len(kept) == 1)
    people = np.stack([shifted(0), shifted(dx)])
    assert distinct_persons(people, [BOX, BOX], [0.5, 0.9], COCO.sigmas).tolist() == kept


def test_the_order_of_the_persons_is_kept():
    people = np.stack([shifted(0), shifted(200), shifted(1), shifted(400)])
    assert distinct_persons(people, [BOX] * 4, [0.6, 0.9, 0.7, 0.8], COCO.sigmas).tolist() == [1, 2, 3]


def test_larger_persons_are_alike_at_larger_distances():
    people, large = np.stack([shifted(0), shifted(40)]), (0, 0, 1000, 2000)
    assert len(distinct_persons(people, [BOX, BOX], [1, 1], COCO.sigmas)) == 2
    assert len(distinct_persons(people, [large, large], [1, 1], COCO.sigmas)) == 1


def test_nobody_and_one_person_are_kept():
    assert distinct_persons(np.zeros((0, 17, 2)), np.zeros((0, 4)), np.zeros(0), COCO.sigmas).tolist() == []
    assert distinct_persons(shifted(0)[None], [BOX], [0.1], COCO.sigmas).tolist() == [0]
