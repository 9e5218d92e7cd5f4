"""The nms suite: calls are timed only if they keep the same persons."""

import numpy as np
import pytest

from pose.errors import PoseError
from pose.tools.benchmarks import nms
from pose.tools.benchmarks._timing import Budget


def measure(peer=None):
    return list(nms.measure(Budget(rounds=1), np.random.default_rng(0), peer=peer, images=6))


def test_ours_is_compared_with_the_greedy_loop_and_with_a_given_peer(timed, checkout):
    case = "OKS-NMS of 125 persons in 6 images"

    without_peer, with_peer = measure(), measure(checkout.path)

    assert [(c.case, c.against_name, c.ratio.value, c.target) for c in without_peer] == [
        (case, "greedy loop", 0.1, None)
    ]
    assert [(c.against_name, c.ratio.value, c.target) for c in with_peer] == [
        ("greedy loop", 0.1, None),
        ("HRNet's code", 0.05, 0.1),
    ]


def test_all_calls_keep_the_same_persons_and_drop_some(timed, checkout):
    measure(checkout.path)

    ours, *others = (call() for call in timed[0].values())
    assert len(ours) == 6
    assert 0 < sum(map(len, ours)) < 125
    assert all([kept.tolist() for kept in other] == [kept.tolist() for kept in ours] for other in others)


@pytest.mark.parametrize(("old", "new"), [("return list(", "return sorted("), ("scores, thresh", "scores, 2")])
def test_different_kept_persons_are_an_error_and_not_timed(timed, checkout, old, new):
    checkout.edit("nms/nms.py", old, new)

    with pytest.raises(PoseError, match=r"^HRNet's code: expected kept persons within 0 of ours"):
        measure(checkout.path)
    assert not timed


def test_a_real_measurement_returns_times(checkout):
    for comparison in measure(checkout.path):
        assert 0 < comparison.ours.median < 1e4
