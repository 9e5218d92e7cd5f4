"""The order of the worst persons, and their errors in words."""

import numpy as np

from pose.evaluation.matching import match_results
from pose.evaluation.worst_persons import describe_classes, worst_persons
from pose.skeleton import COCO


def test_persons_that_lose_most_keypoints_come_first(scene, jittered):
    first = scene.person(image_id=1)
    second = scene.person(image_id=2, labeled=range(3))
    third = scene.person(image_id=3)
    scene.result(jittered(first, 0.8), image_id=1)  # loses 17 x .2
    scene.result(jittered(second, 0.3), image_id=2)  # loses 3 x .7
    scene.result(jittered(third, 0.4), image_id=3)  # loses 17 x .6
    match = match_results(scene.ground_truth(), scene.results, COCO.sigmas, 1)

    assert worst_persons(match, 3) == [(2, 2), (0, 0), (1, 1)]
    assert worst_persons(match, 1) == [(2, 2)]


def test_a_person_without_a_match_is_shown_with_the_free_result_in_its_box_or_not_at_all(scene):
    keypoints = scene.person(image_id=1)
    scene.person(image_id=2)
    scene.result(keypoints[::-1] + 60, image_id=1)
    scene.result(keypoints + 3000, image_id=1, score=0.99)
    match = match_results(scene.ground_truth(), scene.results, COCO.sigmas, 1)

    ((person, result),) = worst_persons(match, 5)

    assert person == 0
    assert match.results.rows[result] == 0


def test_errors_are_named_without_the_good_keypoints():
    assert describe_classes(np.array([0, 0, 1, 1, 3, -1], dtype=np.int8)) == "2 jitter, 1 swap"
    assert describe_classes(np.array([0, -1], dtype=np.int8)) == "no error"
