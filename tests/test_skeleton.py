"""Keypoint sets: COCO's, and those people bring."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose.errors import DataError
from pose.skeleton import COCO, DEFAULT_SIGMA, make_skeleton, skeleton_from_category

HAND = ["left_tip", "middle", "right_tip", "left_alone"]


def test_cocos_mirror_exchanges_left_and_right_and_nothing_else():
    mirrored = [COCO.names[index] for index in COCO.flip_order]

    swap = {"left": "right", "right": "left"}
    assert mirrored == ["_".join(swap.get(part, part) for part in name.split("_")) for name in COCO.names]
    assert len(COCO.flip_pairs) == 8


def test_cocos_sigmas_are_those_of_pycocotools():
    from pycocotools.cocoeval import Params

    np.testing.assert_allclose(COCO.sigmas, Params(iouType="keypoints").kpt_oks_sigmas)


def test_cocos_upper_body_ends_at_the_wrists():
    assert COCO.upper_body == tuple(range(11))


@given(st.lists(st.sampled_from(["left_a", "right_a", "left_b", "right_b", "c", "left_d"]), min_size=1, unique=True))
def test_the_flip_order_is_an_involution(names):
    order = make_skeleton(names).flip_order

    np.testing.assert_array_equal(order[order], np.arange(len(names)))


def test_a_left_without_its_right_stays_where_it_is():
    np.testing.assert_array_equal(make_skeleton(HAND).flip_order, [2, 1, 0, 3])


def test_missing_sigmas_come_from_coco_by_name():
    assert make_skeleton(["left_wrist", "antenna"]).sigmas == (0.062, DEFAULT_SIGMA)


def test_cocos_category_gives_cocos_skeleton():
    category = {
        "name": "person",
        "keypoints": list(COCO.names),
        "skeleton": [[a + 1, b + 1] for a, b in COCO.limbs],  # the file counts from 1
    }

    assert skeleton_from_category(category) == COCO


@pytest.mark.parametrize("category", [{}, {"name": "person", "keypoints": []}, {"keypoints": None}])
def test_a_category_without_keypoints_says_which_file_to_take(category):
    with pytest.raises(DataError, match="person_keypoints"):
        skeleton_from_category(category)


def test_limbs_that_count_from_zero_in_a_category_are_an_error():
    with pytest.raises(DataError, match="outside"):
        skeleton_from_category({"keypoints": ["a", "b"], "skeleton": [[0, 1]]})


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_names_must_be_there_and_differ(names):
    with pytest.raises(DataError, match="different, non-empty"):
        make_skeleton(names)


@pytest.mark.parametrize("limb", [(0, 2), (-1, 0)])
def test_limbs_must_join_keypoints_that_exist(limb):
    with pytest.raises(DataError, match=r"outside 0\.\.1"):
        make_skeleton(["a", "b"], limbs=[limb])


@pytest.mark.parametrize("sigmas", [[], [0.1], [0.1, 0.1, 0.1], [0.1, 0.0], [0.1, -0.1]])
def test_sigmas_must_be_positive_and_one_per_keypoint(sigmas):
    with pytest.raises(DataError, match="2 positive sigmas"):
        make_skeleton(["a", "b"], sigmas=sigmas)
