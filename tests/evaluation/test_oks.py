"""OKS, its suppression and the person's score, against pycocotools and against plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval

from pose.evaluation.oks import oks, oks_nms, rescore
from pose.skeleton import COCO


def crowd(seed: int, count: int, doubles: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Persons at random, some of them nearly twice: keypoints (N, 17, 3), areas (N,), scores (N,)."""
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(0, 200, (count, 17, 3))
    keypoints[count - doubles :, :, :2] = keypoints[:doubles, :, :2] + rng.normal(0, 3, (doubles, 17, 2))
    return keypoints, rng.uniform(2_000, 20_000, count), rng.uniform(0, 1, count)


def plain_oks(first: np.ndarray, second: np.ndarray, area: float) -> float:
    parts = [
        math.exp(-((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / (2 * area * (2 * sigma) ** 2))
        for a, b, sigma in zip(first, second, COCO.sigmas, strict=True)
    ]
    return sum(parts) / len(parts)


def plain_nms(keypoints: np.ndarray, areas: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for candidate in sorted(range(len(scores)), key=lambda person: -scores[person]):
        if all(
            plain_oks(keypoints[candidate], keypoints[better], (areas[candidate] + areas[better]) / 2) <= threshold
            for better in kept
        ):
            kept.append(candidate)
    return kept


def test_oks_equals_pycocotools_where_both_areas_are_the_annotated_one():
    keypoints, _, scores = crowd(0, 12, doubles=5)
    area = 9_000.0
    evaluator = COCOeval(iouType="keypoints")
    order = np.argsort(-scores, kind="stable")
    evaluator._dts[1, 1] = [{"keypoints": keypoints[i].ravel(), "score": scores[i]} for i in order]
    labelled = keypoints[0].copy()
    labelled[:, 2] = 2
    evaluator._gts[1, 1] = [{"keypoints": labelled.ravel(), "area": area, "bbox": [0, 0, 1, 1]}]

    expected = evaluator.computeOks(1, 1)[:, 0]

    ours = oks(keypoints[0], area, keypoints[order], np.full(12, area), COCO.sigmas)
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    assert ours.min() < 0.1
    assert ours.max() == 1.0


def test_oks_is_symmetric_and_one_for_the_same_person():
    keypoints, areas, _ = crowd(1, 6, doubles=2)

    matrix = oks(keypoints[:, None], areas[:, None], keypoints, areas, COCO.sigmas)

    np.testing.assert_allclose(matrix, matrix.T, atol=1e-15)
    np.testing.assert_array_equal(np.diag(matrix), 1)


def test_the_third_column_does_not_count():
    keypoints, areas, _ = crowd(2, 4)

    np.testing.assert_array_equal(
        oks(keypoints[0], areas[0], keypoints, areas, COCO.sigmas),
        oks(keypoints[0, :, :2], areas[0], keypoints[..., :2], areas, COCO.sigmas),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 14), st.sampled_from([0.0, 0.5, 0.7, 0.9, 1.0]))
def test_nms_keeps_the_persons_of_a_plain_loop(seed, count, threshold):
    keypoints, areas, scores = crowd(seed, count, doubles=count // 2)

    kept = oks_nms(keypoints, areas, scores, threshold, COCO.sigmas)

    assert kept.tolist() == plain_nms(keypoints, areas, scores, threshold)


def test_a_suppressed_person_suppresses_nobody():
    # A chain of three: the middle one is like both ends, the ends are not alike.
    middle = np.tile([50.0, 50.0], (17, 1))
    step = np.array([[9.0, 0.0]])
    people, areas = np.stack([middle - step, middle, middle + step]), np.full(3, 10_000.0)
    matrix = oks(people[:, None], areas[:, None], people, areas, COCO.sigmas)
    threshold = float((matrix[0, 1] + matrix[0, 2]) / 2)

    assert oks_nms(people, areas, [0.9, 0.8, 0.7], threshold, COCO.sigmas).tolist() == [0, 2]
    assert oks_nms(people, areas, [0.8, 0.9, 0.7], threshold, COCO.sigmas).tolist() == [1]


def test_equal_scores_keep_their_order():
    keypoints, areas, _ = crowd(3, 5)

    assert oks_nms(keypoints, areas, np.full(5, 0.5), 0.9, COCO.sigmas).tolist() == [0, 1, 2, 3, 4]


def test_a_threshold_of_one_suppresses_nobody_not_even_copies():
    keypoints, areas, scores = crowd(4, 3)
    keypoints[1], areas[1] = keypoints[0], areas[0]

    assert len(oks_nms(keypoints, areas, scores, 1.0, COCO.sigmas)) == 3
    assert len(oks_nms(keypoints, areas, scores, 0.999, COCO.sigmas)) == 2


def test_nobody_is_kept_of_nobody():
    kept = oks_nms(np.zeros((0, 17, 3)), np.zeros(0), np.zeros(0), 0.9, COCO.sigmas)

    assert kept.shape == (0,)


def test_the_score_is_the_box_score_times_the_mean_of_the_peaks_above_the_threshold():
    peaks = [[0.9, 0.5, 0.1], [0.3, 0.19, 0.0]]

    np.testing.assert_allclose(rescore([0.8, 1.0], peaks, 0.2), [0.8 * 0.7, 0.3])


@pytest.mark.parametrize("peaks", [[0.2, 0.2], [0.1, 0.0], [-1.0, 0.05]])
def test_a_person_without_a_peak_above_the_threshold_scores_zero(peaks):
    assert rescore([0.9], [peaks], 0.2).tolist() == [0.0]
