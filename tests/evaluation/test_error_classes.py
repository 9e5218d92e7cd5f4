"""Classes of keypoints and corrections, on persons with planted errors."""

import numpy as np
import pytest

from pose.evaluation.error_classes import (
    CLASS_NAMES,
    GOOD,
    INVERSION,
    JITTER,
    MISS,
    NOT_EVALUATED,
    SWAP,
    classify_keypoints,
    correct_keypoints,
    correct_scores,
    count_classes,
    count_scoring_errors,
    missed_person_ids,
    remove_false_positives,
)
from pose.evaluation.matching import match_results
from pose.skeleton import COCO

from .conftest import distance_at

NOSE, LEFT_EYE, LEFT_ELBOW, RIGHT_ELBOW, LEFT_WRIST = 0, 1, 7, 8, 9


def analyse(scene):
    match = match_results(scene.ground_truth(), scene.results, COCO.sigmas, 1)
    return match, classify_keypoints(match, COCO.sigmas)


def classes_of(scene):
    """Classes of the keypoints of the first result."""
    match, errors = analyse(scene)
    return errors.classes[match.results.rows.tolist().index(0)]


@pytest.mark.parametrize(
    ("similarity", "expected"), [(1.0, GOOD), (0.86, GOOD), (0.84, JITTER), (0.51, JITTER), (0.49, MISS), (1e-9, MISS)]
)
@pytest.mark.parametrize("keypoint", [NOSE, 11])
def test_the_similarity_with_the_own_annotation_decides_between_good_jitter_and_miss(
    scene, similarity, expected, keypoint
):
    keypoints = scene.person()
    keypoints[keypoint, 1] += distance_at(similarity, keypoint)
    scene.result(keypoints)

    _, errors = analyse(scene)

    assert errors.classes[0, keypoint] == expected
    np.testing.assert_allclose(errors.similarity[0, keypoint], similarity, atol=1e-9)
    assert (np.delete(errors.classes[0], keypoint) == GOOD).all()


def test_a_keypoint_at_another_of_the_same_person_is_an_inversion(scene):
    keypoints = scene.person()
    keypoints[[LEFT_ELBOW, RIGHT_ELBOW]] = keypoints[[RIGHT_ELBOW, LEFT_ELBOW]]
    keypoints[LEFT_WRIST] = keypoints[NOSE]
    scene.result(keypoints)

    _, errors = analyse(scene)

    assert np.flatnonzero(errors.classes[0] == INVERSION).tolist() == [LEFT_ELBOW, RIGHT_ELBOW, LEFT_WRIST]
    assert errors.confused_with[0, [LEFT_ELBOW, RIGHT_ELBOW, LEFT_WRIST]].tolist() == [RIGHT_ELBOW, LEFT_ELBOW, NOSE]
    assert count_classes(errors.classes) == {"good": 14, "jitter": 0, "inversion": 3, "swap": 0, "miss": 0}


def test_a_keypoint_at_any_keypoint_of_another_person_is_a_swap(scene):
    keypoints, other = scene.person(), scene.person(left=2000)
    keypoints[LEFT_WRIST] = other[LEFT_WRIST]
    keypoints[LEFT_ELBOW] = other[NOSE]
    scene.result(keypoints)

    _, errors = analyse(scene)

    assert np.flatnonzero(errors.classes[0] == SWAP).tolist() == [LEFT_ELBOW, LEFT_WRIST]
    assert errors.confused_with[0, [LEFT_ELBOW, LEFT_WRIST]].tolist() == [NOSE, LEFT_WRIST]


def test_the_near_keypoint_decides_the_tolerance_of_an_inversion(scene):
    """The nose has a smaller sigma than the wrist: a wrist is near it only within the nose's distance."""
    for fraction, expected in ((0.6, INVERSION), (0.4, MISS)):
        scene.results.clear()
        scene.annotations.clear()
        keypoints = scene.person()
        keypoints[LEFT_WRIST] = keypoints[NOSE] + [distance_at(fraction, NOSE), 0]
        scene.result(keypoints)

        assert classes_of(scene)[LEFT_WRIST] == expected


def test_the_own_annotation_comes_before_the_same_person_and_that_before_others(scene):
    scene.person()
    both = scene.person()  # at the same place, so that each keypoint is also near one of another person
    both[LEFT_WRIST] = both[NOSE]  # near a keypoint of both persons
    scene.result(both)

    classes = classes_of(scene)

    assert classes[LEFT_WRIST] == INVERSION
    assert (np.delete(classes, LEFT_WRIST) == GOOD).all()


def test_persons_of_other_images_and_unlabeled_keypoints_are_not_near(scene):
    keypoints = scene.person(labeled=[*range(1, 17)])
    other = scene.person(image_id=2, left=2000)
    keypoints[LEFT_WRIST] = keypoints[NOSE]  # not labeled
    keypoints[LEFT_ELBOW] = other[LEFT_ELBOW]
    scene.result(keypoints)

    classes = classes_of(scene)

    assert classes[LEFT_WRIST] == classes[LEFT_ELBOW] == MISS
    assert classes[NOSE] == NOT_EVALUATED


def test_keypoints_of_results_without_a_person_have_no_class(scene):
    scene.result(scene.person() + 3000)

    assert (classes_of(scene) == NOT_EVALUATED).all()
    assert count_classes(classes_of(scene)) == dict.fromkeys(CLASS_NAMES, 0)


def test_a_correction_moves_only_keypoints_of_its_class_and_keeps_scores(scene):
    truth = scene.person()
    keypoints = truth.copy()
    keypoints[LEFT_WRIST, 1] += distance_at(0.7, LEFT_WRIST)
    keypoints[NOSE] = [-900, -900]
    scene.result(keypoints)
    before = [dict(result) for result in scene.results]
    match, errors = analyse(scene)

    (corrected,) = correct_keypoints(scene.results, match, errors, {JITTER})

    xyv = np.reshape(corrected["keypoints"], (17, 3))
    np.testing.assert_array_equal(xyv[NOSE, :2], [-900, -900])
    np.testing.assert_array_equal(xyv[1:, :2], truth[1:])
    assert (xyv[:, 2] == 0.8).all()
    assert corrected["score"] == 0.9
    assert scene.results == before


def test_optimal_scores_are_the_highest_oks_with_any_person(scene, jittered):
    first, second = scene.person(), scene.person(left=2000)
    scene.result(jittered(first, 0.6), score=0.9)
    scene.result(jittered(second, 0.8), score=0.1)
    scene.result(first + 3500, score=0.99)
    match, _ = analyse(scene)

    scores = [result["score"] for result in correct_scores(scene.results, match)]

    np.testing.assert_allclose(scores, [0.6, 0.8, 0], atol=1e-9)


def test_a_scoring_error_is_a_person_whose_highest_score_is_not_its_best_result(scene, jittered):
    first, second, third = (scene.person(image_id=image_id) for image_id in (1, 2, 3))
    for keypoints, scores, image_id in ((first, (0.2, 0.9), 1), (second, (0.9, 0.2), 2), (third, (0.5, 0.5), 3)):
        scene.result(keypoints, scores[0], image_id)
        scene.result(jittered(keypoints, 0.6), scores[1], image_id)
    match, _ = analyse(scene)

    assert count_scoring_errors(match.results) == 1  # equal scores are no error


def test_false_positives_are_background_errors_and_duplicates_and_false_negatives_persons_without_a_result(scene):
    keypoints = scene.person()
    scene.person(left=2000)
    scene.result(keypoints, score=0.5)
    scene.result(keypoints + 1, score=0.4)  # a duplicate
    scene.result(keypoints + 3500, score=0.3)
    match, _ = analyse(scene)

    assert remove_false_positives(scene.results, match) == scene.results[:1]
    ids = missed_person_ids(match)
    assert [scene.annotations[person_id - 1]["id"] for person_id in ids] == [101]
    assert count_scoring_errors(match.results) == 0
