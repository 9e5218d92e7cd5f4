"""The decode suite: calls are timed only if their keypoints are equal."""

import numpy as np
import pytest

from pose.errors import PoseError
from pose.tools.benchmarks import decode
from pose.tools.benchmarks._timing import Budget


def measure(peer=None):
    return list(decode.measure(Budget(rounds=1), np.random.default_rng(0), peer=peer, persons=3))


def test_ours_is_compared_with_single_calls_and_with_a_given_peer(timed, checkout):
    case = "3 x 17 heatmaps of 64x48 to keypoints"

    without_peer, with_peer = measure(), measure(checkout.path)

    assert [(c.case, c.against_name, c.ratio.value, c.target) for c in without_peer] == [
        (case, "one map at a time", 0.1, None)
    ]
    assert [(c.against_name, c.ratio.value, c.target) for c in with_peer] == [
        ("one map at a time", 0.1, None),
        ("HRNet's code", 0.05, 1 / 25),
    ]


def test_all_calls_decode_the_same_heatmaps(timed, checkout):
    measure(checkout.path)

    (keypoints, scores), *others = (call() for call in timed[0].values())
    assert keypoints.shape == (3, 17, 2)
    assert np.ptp(keypoints) > 20
    assert (scores > 0.7).all()
    for other, other_scores in others:
        np.testing.assert_allclose(other, keypoints, atol=1e-3)
        np.testing.assert_array_equal(other_scores.reshape(3, 17), scores)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("np.array(preds, ", "0.01 + np.array(preds, ", "keypoints .px. within 0.001 of ours"),
        ("scores[..., None]", "scores[..., None] * 1.0001", "scores within 0 of ours"),
    ],
)
def test_different_keypoints_or_scores_are_an_error_and_not_timed(timed, checkout, old, new, message):
    checkout.edit("core/inference.py", old, new)

    with pytest.raises(PoseError, match=rf"^HRNet's code: expected {message}.* got a difference of"):
        measure(checkout.path)
    assert not timed


def test_a_real_measurement_returns_times(checkout):
    for comparison in measure(checkout.path):
        assert 0 < comparison.ours.median < 1e4
