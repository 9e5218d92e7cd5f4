"""The decode suite: equal keypoints, or nothing is timed."""

import numpy as np
import pytest

from pose.errors import PoseError
from pose.tools.benchmarks import decode
from pose.tools.benchmarks._timing import Budget


def measure(peer=None):
    return list(decode.measure(Budget(rounds=1), np.random.default_rng(0), peer=peer, persons=3))


def test_ours_meets_itself_one_by_one_and_hrnet_where_there_is_one(timed, checkout):
    case = "3 x 17 heatmaps of 64x48 to keypoints"

    alone, both = measure(), measure(checkout.path)

    assert [(c.case, c.against_name, c.ratio.value, c.bar) for c in alone] == [(case, "one map at a time", 0.1, None)]
    assert [(c.against_name, c.ratio.value, c.bar) for c in both] == [
        ("one map at a time", 0.1, None),
        ("HRNet's code", 0.05, 1 / 25),
    ]


def test_all_decode_the_same_maps_with_peaks_in_them(timed, checkout):
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
        ("np.array(preds, ", "0.01 + np.array(preds, ", "keypoints .px. of ours within 0.001"),
        ("scores[..., None]", "scores[..., None] * 1.0001", "scores of ours within 0"),
    ],
)
def test_other_keypoints_or_scores_are_not_timed(timed, checkout, old, new, message):
    checkout.edit("core/inference.py", old, new)

    with pytest.raises(PoseError, match=rf"^HRNet's code: expected the {message}.* got a difference of"):
        measure(checkout.path)
    assert not timed


def test_a_real_measurement_ends(checkout):
    for comparison in measure(checkout.path):
        assert 0 < comparison.ours.median < 1e4
