"""Groups of persons, subsets for AP, and PCK, on constructed persons."""

import numpy as np
import pytest

from pose.evaluation.breakdown import (
    box_iou,
    by_labeled_keypoints,
    by_overlap,
    by_size,
    only_group,
    only_keypoint,
    pck,
    without_persons,
)
from pose.evaluation.matching import match_results
from pose.evaluation.precision import average_precision, rank_matches
from pose.skeleton import COCO

WIDTH = 1000.0
"""Longest side of a person's box."""


def match(scene):
    return match_results(scene.ground_truth(), scene.results, COCO.sigmas, 1)


def ap(ground_truth, results):
    return average_precision(rank_matches(ground_truth, results, COCO.sigmas, 1)).mean()


def members(groups):
    return {name: np.flatnonzero(mask).tolist() for name, mask in groups.items()}


def test_persons_are_grouped_by_the_root_of_their_area(scene):
    for side in (31.9, 32, 95.9, 96, 192, 500):
        scene.person(area=side**2)

    assert members(by_size(match(scene).persons)) == {
        "below 32 px": [0],
        "32 to 96 px": [1, 2],
        "96 to 192 px": [3],
        "from 192 px": [4, 5],
    }


def test_persons_are_grouped_by_labeled_keypoints(scene):
    for count in (1, 5, 6, 10, 11, 15, 16, 17):
        scene.person(labeled=range(count))

    assert members(by_labeled_keypoints(match(scene).persons)) == {
        "1 to 5": [0, 1],
        "6 to 10": [2, 3],
        "11 to 15": [4, 5],
        "16 to 17": [6, 7],
    }


def test_overlap_counts_other_boxes_of_the_image_also_without_keypoints_but_no_crowds(scene):
    scene.person(left=0)
    scene.person(left=500)
    scene.person(left=700)
    scene.person(left=600, labeled=())
    scene.person(left=100, iscrowd=1)
    scene.person(left=9000)
    scene.person(left=0, image_id=2)

    # IoU with the box at 0: (1000 - left) / (1000 + left), 1/3 at 500, .18 at 700, .25 at 600.
    assert members(by_overlap(match(scene).persons, scene.ground_truth())) == {
        "none": [3, 4],
        "1 or 2": [],
        "3 or more": [0, 1, 2],
    }


def test_box_iou_of_touching_equal_and_nested_boxes():
    box = np.array([10.0, 20, 30, 40])
    others = np.array([[40.0, 20, 30, 40], [10, 20, 30, 40], [10, 20, 15, 20], [25, 20, 30, 40]])

    np.testing.assert_allclose(box_iou(box, others), [0, 1, 0.25, 1 / 3])


def test_a_group_is_evaluated_with_the_results_nearest_to_its_persons(scene, jittered):
    small, large = scene.person(area=90**2), scene.person(left=2000)
    scene.result(small, score=0.3)
    scene.result(jittered(large, 0.62), score=0.9)  # wrong above OKS .6, but no error of the small person
    scene.result(large - 4000, score=0.99)  # a background error of no group
    found = match(scene)

    aps = [
        ap(*only_group(scene.ground_truth(), scene.results, found, mask))
        for mask in (np.array([True, False]), np.array([False, True]), np.array([False, False]))
    ]

    assert aps[0] == 1
    assert aps[1] == pytest.approx(0.3)  # the thresholds .5, .55 and .6
    assert np.isnan(aps[2])


def test_results_of_ignored_persons_are_no_errors_of_a_group(scene):
    scene.result(scene.person(), score=0.3)
    scene.result(scene.person(left=2000, iscrowd=1), score=0.9)

    assert ap(*only_group(scene.ground_truth(), scene.results, match(scene), np.array([True]))) == 1


def test_only_one_keypoint_counts_in_its_ap(scene):
    keypoints = scene.person()
    scene.person(left=2000, labeled=[0])
    keypoints[9] -= 900
    scene.result(keypoints)

    truth = scene.ground_truth()

    assert ap(only_keypoint(truth, 9), scene.results) == 0
    assert ap(only_keypoint(truth, 10), scene.results) == 1  # the other person has no such label and is ignored
    assert ap(only_keypoint(truth, 0), scene.results) == pytest.approx(51 / 101)
    assert truth.dataset["annotations"][0]["num_keypoints"] == 17


def test_without_persons_drops_them_only(scene):
    scene.person()
    scene.person(left=2000)

    truth = without_persons(scene.ground_truth(), {1})

    assert [row["id"] for row in truth.dataset["annotations"]] == [2]
    assert truth.getImgIds() == [1]


def test_pck_counts_labeled_keypoints_within_the_threshold_and_persons_without_a_result_as_wrong(scene):
    keypoints = scene.person(labeled=[0, 1, 2, 11, 12])
    keypoints[1, 0] += 0.08 * WIDTH
    keypoints[2, 1] += 0.15 * WIDTH
    scene.result(keypoints)
    scene.person(left=2500, labeled=[0])

    values = pck(match(scene))

    np.testing.assert_array_equal(values[:, 0], [0.5, 0.5, 0.5])
    np.testing.assert_array_equal(values[:, 1], [0, 1, 1])
    np.testing.assert_array_equal(values[:, 2], [0, 0, 1])
    assert np.isnan(values[:, 5]).all()
