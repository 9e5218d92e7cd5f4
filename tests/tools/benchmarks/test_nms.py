"""The nms suite: the same persons are kept, or nothing is timed."""

import numpy as np
import pytest

from pose.errors import PoseError
from pose.tools.benchmarks import nms
from pose.tools.benchmarks._timing import Budget


def measure(peer=None):
    return list(nms.measure(Budget(rounds=1), np.random.default_rng(0), peer=peer, images=6))


def test_ours_meets_the_textbook_and_hrnet_where_there_is_one(timed, checkout):
    case, textbook = "OKS-NMS of 125 persons in 6 images", "the best left against the rest"

    alone, both = measure(), measure(checkout.path)

    assert [(c.case, c.against_name, c.ratio.value, c.bar) for c in alone] == [(case, textbook, 0.1, None)]
    assert [(c.against_name, c.ratio.value, c.bar) for c in both] == [
        (textbook, 0.1, None),
        ("HRNet's code", 0.05, 0.1),
    ]


def test_all_keep_the_same_persons_and_drop_some(timed, checkout):
    measure(checkout.path)

    ours, *others = (call() for call in timed[0].values())
    assert len(ours) == 6
    assert 0 < sum(map(len, ours)) < 125
    assert all([kept.tolist() for kept in other] == [kept.tolist() for kept in ours] for other in others)


@pytest.mark.parametrize(("old", "new"), [("return list(", "return sorted("), ("scores, thresh", "scores, 2")])
def test_other_persons_kept_are_not_timed(timed, checkout, old, new):
    checkout.edit("nms/nms.py", old, new)

    with pytest.raises(PoseError, match=r"^HRNet's code: expected the persons kept of ours"):
        measure(checkout.path)
    assert not timed


def test_a_real_measurement_ends(checkout):
    for comparison in measure(checkout.path):
        assert 0 < comparison.ours.median < 1e4
