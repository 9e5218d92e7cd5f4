"""Calibration of scores: bins, error and rank correlation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose.evaluation.score_calibration import calibrate, rank_correlation


def test_bins_have_equal_numbers_of_samples_in_the_order_of_the_scores():
    rng = np.random.default_rng(0)
    scores = rng.permutation(np.linspace(0, 1, 100))

    bins = calibrate(scores, scores**2)

    assert bins.counts.tolist() == [10] * 10
    expected = np.sort(scores).reshape(10, 10)
    np.testing.assert_allclose(bins.scores, expected.mean(axis=1))
    np.testing.assert_allclose(bins.quality, (expected**2).mean(axis=1))


def test_calibrated_scores_have_no_error_and_constant_overconfidence_is_the_error():
    scores = np.linspace(0.3, 1, 50)

    assert calibrate(scores, scores).error == pytest.approx(0)
    assert calibrate(scores, scores - 0.2).error == pytest.approx(0.2)


def test_equal_scores_share_a_bin():
    bins = calibrate(np.array([0.5] * 25 + [0.9] * 8), np.arange(33) / 33)

    assert bins.counts.tolist() == [25, 8]
    np.testing.assert_allclose(bins.scores, [0.5, 0.9])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), max_size=40))
def test_bins_hold_every_sample_once(samples):
    scores, quality = np.array(samples, dtype=np.float64).reshape(-1, 2).T

    bins = calibrate(scores, quality)

    assert bins.counts.sum() == len(samples)
    np.testing.assert_allclose((bins.quality * bins.counts).sum(), quality.sum(), atol=1e-9)
    assert np.all(np.diff(bins.scores) > 0)


def test_scores_outside_of_0_to_1_and_no_samples_have_no_error():
    assert calibrate(np.array([0.5, 12.0]), np.array([0.5, 0.9])).error is None
    assert calibrate(np.zeros(0), np.zeros(0)).error is None


def test_rank_correlation_is_that_of_spearman():
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([0.1, 0.2, 9])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    # ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: covariance 4.5, variances 4.5 and 5
    assert rank_correlation(np.array([1.0, 2, 2, 5]), np.array([1.0, 3, 2, 4])) == pytest.approx(4.5 / np.sqrt(22.5))
    assert np.isnan(rank_correlation(np.ones(3), np.arange(3.0)))
    assert np.isnan(rank_correlation(np.zeros(0), np.zeros(0)))
