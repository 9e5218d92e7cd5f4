"""Matches of results and persons, on constructed persons."""

import numpy as np
import pytest

from pose.evaluation.matching import MATCH_OKS, NOBODY, match_pairs, match_results
from pose.skeleton import COCO


def match(scene):
    return match_results(scene.ground_truth(), scene.results, COCO.sigmas, 1)


def test_each_result_is_matched_to_its_person(scene, jittered):
    first, second = scene.person(left=0), scene.person(left=2000)
    scene.result(jittered(second, 0.7))
    scene.result(first, score=0.5)

    found = match(scene)

    np.testing.assert_array_equal(found.results.rows[found.result_of_person], [1, 0])
    np.testing.assert_allclose(found.results.oks[found.result_of_person], [1, 0.7], atol=1e-9)
    assert not found.results.is_background.any()


def test_a_better_result_keeps_its_person_although_another_has_a_higher_score(scene, jittered):
    keypoints = scene.person()
    scene.result(jittered(keypoints, 0.3), score=0.9)
    scene.result(keypoints, score=0.2)

    found = match(scene)

    assert found.results.rows[found.result_of_person].tolist() == [1]
    np.testing.assert_array_equal(found.results.is_duplicate[np.argsort(found.results.rows)], [True, False])


def test_a_result_below_the_limit_is_a_background_error_and_its_person_has_no_result(scene, jittered):
    scene.result(jittered(scene.person(), 0.9 * MATCH_OKS))

    found = match(scene)

    assert found.results.is_background.tolist() == [True]
    assert found.result_of_person.tolist() == [NOBODY]
    np.testing.assert_allclose(found.results.highest_oks, 0.9 * MATCH_OKS)


@pytest.mark.parametrize("ignored", [{"iscrowd": 1}, {"labeled": ()}])
def test_results_of_crowds_and_of_persons_without_keypoints_are_left_out(scene, ignored):
    scene.result(scene.person())
    scene.result(scene.person(left=2000, **ignored))

    found = match(scene)

    assert len(found.persons) == 1
    assert found.results.rows.tolist() == [0]


def test_only_the_20_highest_scores_of_an_image_are_evaluated_as_in_coco(scene):
    keypoints = scene.person()
    for index in range(25):
        scene.result(keypoints + 3000 * (index != 7), score=0.1 + 0.01 * index)

    assert sorted(match(scene).results.rows) == list(range(5, 25))


def test_images_without_persons_or_without_results_are_accepted(scene):
    keypoints = scene.person(image_id=1)
    scene.result(keypoints, image_id=2)

    found = match(scene)

    assert found.results.is_background.tolist() == [True]
    assert found.results.highest_oks.tolist() == [0]
    assert found.result_of_person.tolist() == [NOBODY]


def test_no_results_at_all_leave_every_person_without_a_result(scene):
    scene.person()

    found = match(scene)

    assert len(found.results) == 0
    assert found.results.keypoints_image.shape == (0, 17, 2)
    assert found.result_of_person.tolist() == [NOBODY]


def test_pairs_are_matched_one_to_one_with_the_highest_similarity_first():
    similarities = np.array([[0.9, 0.8, 0.05], [0.95, 0.2, 0.05], [0.3, 0.3, 0.05]])

    assert match_pairs(similarities).tolist() == [1, 0, NOBODY]
    assert match_pairs(np.zeros((2, 0))).tolist() == [NOBODY, NOBODY]
