"""Keypoint sets: COCO and custom ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose.errors import DataError
from pose.skeleton import COCO, DEFAULT_SIGMA, make_skeleton

HAND = ["left_tip", "middle", "right_tip", "left_alone"]


def test_coco_flip_order_swaps_left_and_right_only():
    flipped_names = [COCO.names[index] for index in COCO.flip_order]

    swap = {"left": "right", "right": "left"}
    assert flipped_names == ["_".join(swap.get(part, part) for part in name.split("_")) for name in COCO.names]
    assert len(COCO.flip_pairs) == 8


def test_coco_sigmas_equal_pycocotools():
    from pycocotools.cocoeval import Params

    np.testing.assert_allclose(COCO.sigmas, Params(iouType="keypoints").kpt_oks_sigmas)


def test_coco_upper_body_ends_at_the_wrists():
    assert COCO.upper_body == tuple(range(11))


@given(st.lists(st.sampled_from(["left_a", "right_a", "left_b", "right_b", "c", "left_d"]), min_size=1, unique=True))
def test_flip_order_is_an_involution(names):
    order = make_skeleton(names).flip_order

    np.testing.assert_array_equal(order[order], np.arange(len(names)))


def test_a_left_keypoint_without_a_right_one_is_not_swapped():
    np.testing.assert_array_equal(make_skeleton(HAND).flip_order, [2, 1, 0, 3])


def test_default_sigmas_come_from_coco_by_name():
    assert make_skeleton(["left_wrist", "antenna"]).sigmas == (0.062, DEFAULT_SIGMA)


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_names_must_be_non_empty_and_unique(names):
    with pytest.raises(DataError, match="unique, non-empty"):
        make_skeleton(names)


@pytest.mark.parametrize("limb", [(0, 2), (-1, 0)])
def test_limbs_must_connect_existing_keypoints(limb):
    with pytest.raises(DataError, match=r"indices in 0\.\.1, got"):
        make_skeleton(["a", "b"], limbs=[limb])


@pytest.mark.parametrize("sigmas", [[], [0.1], [0.1, 0.1, 0.1], [0.1, 0.0], [0.1, -0.1]])
def test_sigmas_must_be_positive_and_one_per_keypoint(sigmas):
    with pytest.raises(DataError, match="2 positive sigmas"):
        make_skeleton(["a", "b"], sigmas=sigmas)
