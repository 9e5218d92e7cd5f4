"""OKS, OKS-NMS and rescoring against pycocotools and plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval

from pose.evaluation.oks import oks, oks_nms, rescore
from pose.skeleton import COCO


def random_people(seed: int, count: int, duplicates: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random persons, the last ones near-duplicates: keypoints (N, 17, 3), areas (N,), scores (N,)."""
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(0, 200, (count, 17, 3))
    keypoints[count - duplicates :, :, :2] = keypoints[:duplicates, :, :2] + rng.normal(0, 3, (duplicates, 17, 2))
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


def test_oks_equals_pycocotools_if_both_areas_are_the_annotated_area():
    keypoints, _, scores = random_people(0, 12, duplicates=5)
    area = 9_000.0
    evaluator = COCOeval(iouType="keypoints")
    order = np.argsort(-scores, kind="stable")
    evaluator._dts[1, 1] = [{"keypoints": keypoints[i].ravel(), "score": scores[i]} for i in order]
    labeled = keypoints[0].copy()
    labeled[:, 2] = 2
    evaluator._gts[1, 1] = [{"keypoints": labeled.ravel(), "area": area, "bbox": [0, 0, 1, 1]}]

    expected = evaluator.computeOks(1, 1)[:, 0]

    ours = oks(keypoints[0], area, keypoints[order], np.full(12, area), COCO.sigmas)
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    assert ours.min() < 0.1
    assert ours.max() == 1.0


def test_oks_is_symmetric_and_1_for_the_same_person():
    keypoints, areas, _ = random_people(1, 6, duplicates=2)

    matrix = oks(keypoints[:, None], areas[:, None], keypoints, areas, COCO.sigmas)

    np.testing.assert_allclose(matrix, matrix.T, atol=1e-15)
    np.testing.assert_array_equal(np.diag(matrix), 1)


def test_oks_ignores_the_third_column_of_the_keypoints():
    keypoints, areas, _ = random_people(2, 4)

    np.testing.assert_array_equal(
        oks(keypoints[0], areas[0], keypoints, areas, COCO.sigmas),
        oks(keypoints[0, :, :2], areas[0], keypoints[..., :2], areas, COCO.sigmas),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 14), st.sampled_from([0.0, 0.5, 0.7, 0.9, 1.0]))
def test_oks_nms_keeps_the_same_persons_as_a_plain_loop(seed, count, threshold):
    keypoints, areas, scores = random_people(seed, count, duplicates=count // 2)

    kept = oks_nms(keypoints, areas, scores, threshold, COCO.sigmas)

    assert kept.tolist() == plain_nms(keypoints, areas, scores, threshold)


def test_a_suppressed_person_suppresses_no_other_person():
    # A chain of three: the middle one is similar to both ends, the ends are not similar to each other.
    middle = np.tile([50.0, 50.0], (17, 1))
    step = np.array([[9.0, 0.0]])
    people, areas = np.stack([middle - step, middle, middle + step]), np.full(3, 10_000.0)
    matrix = oks(people[:, None], areas[:, None], people, areas, COCO.sigmas)
    threshold = float((matrix[0, 1] + matrix[0, 2]) / 2)

    assert oks_nms(people, areas, [0.9, 0.8, 0.7], threshold, COCO.sigmas).tolist() == [0, 2]
    assert oks_nms(people, areas, [0.8, 0.9, 0.7], threshold, COCO.sigmas).tolist() == [1]


def test_oks_nms_keeps_the_order_of_equal_scores():
    keypoints, areas, _ = random_people(3, 5)

    assert oks_nms(keypoints, areas, np.full(5, 0.5), 0.9, COCO.sigmas).tolist() == [0, 1, 2, 3, 4]


def test_a_threshold_of_1_suppresses_no_person_not_even_copies():
    keypoints, areas, scores = random_people(4, 3)
    keypoints[1], areas[1] = keypoints[0], areas[0]

    assert len(oks_nms(keypoints, areas, scores, 1.0, COCO.sigmas)) == 3
    assert len(oks_nms(keypoints, areas, scores, 0.999, COCO.sigmas)) == 2


def test_oks_nms_of_no_persons_is_empty():
    kept = oks_nms(np.zeros((0, 17, 3)), np.zeros(0), np.zeros(0), 0.9, COCO.sigmas)

    assert kept.shape == (0,)


def test_rescore_is_box_score_times_mean_of_peaks_above_the_threshold():
    peaks = [[0.9, 0.5, 0.1], [0.3, 0.19, 0.0]]

    np.testing.assert_allclose(rescore([0.8, 1.0], peaks, 0.2), [0.8 * 0.7, 0.3])


@pytest.mark.parametrize("peaks", [[0.2, 0.2], [0.1, 0.0], [-1.0, 0.05]])
def test_rescore_is_0_without_a_peak_above_the_threshold(peaks):
    assert rescore([0.9], [peaks], 0.2).tolist() == [0.0]
