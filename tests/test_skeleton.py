"""Keypoint sets: COCO and custom ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose.errors import DataError
from pose.skeleton import COCO, DEFAULT_SIGMA, canonical_names, find_flip_pairs, make_skeleton, unpaired_sides

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


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_eye", "right_eye"),
        ("eye_left", "eye_right"),
        ("LeftEye", "RightEye"),
        ("LEFT EYE", "RIGHT EYE"),
        ("lefteye", "righteye"),
        ("wing_l", "wing_r"),
        ("l_wing", "r_wing"),
        ("LShoulder", "RShoulder"),
        ("L_Shoulder", "R_Shoulder"),
        ("paw.L", "paw.R"),
        ("front-paw.l", "front-paw.r"),
        ("Lwing", "Rwing"),
        ("LF_paw", "RF_paw"),
        ("WINGL", "WINGR"),
        ("l1", "r1"),
        ("hip_left_2", "hip_right_2"),
    ],
)
def test_flip_pairs_are_found_in_every_usual_spelling(left, right):
    assert find_flip_pairs(["tail", right, "middle", left]) == ((3, 1),)


@pytest.mark.parametrize(
    "names", [("leg", "reg"), ("lip", "rip"), ("wing_1", "wing_2"), ("left_a", "right_b"), ("l_r", "r_l")]
)
def test_names_without_opposite_sides_are_no_flip_pair(names):
    assert find_flip_pairs(names) == ()


def test_an_ambiguous_partner_is_no_flip_pair_and_is_reported():
    skeleton = make_skeleton(["wing_l", "left_wing", "wing_r", "tail"])

    assert skeleton.flip_pairs == ()
    assert unpaired_sides(skeleton) == ["wing_l", "left_wing", "wing_r"]


def test_names_compare_with_coco_in_any_spelling():
    assert canonical_names(["LShoulder", "RShoulder", "Nose", "knee.R"]) == [
        "left_shoulder", "right_shoulder", "nose", "right_knee"
    ]  # fmt: skip
    assert canonical_names(COCO.names) == list(COCO.names)
    assert make_skeleton(["LShoulder", "RShoulder"]).sigmas == (0.079, 0.079)


def test_given_flip_pairs_and_half_body_replace_those_of_the_names():
    skeleton = make_skeleton(["left_a", "right_a", "b", "c"], flip_pairs=[(2, 3)], upper_body=[3])

    assert skeleton.flip_order.tolist() == [0, 1, 3, 2]
    assert skeleton.upper_body == (3,)
    assert skeleton.paired_names == "b<->c"


@pytest.mark.parametrize(
    ("pairs", "message"), [([(0, 4)], r"flip_pairs: .* 0\.\.2"), ([(0, 1), (1, 2)], "in one pair, got 'b' twice")]
)
def test_flip_pairs_must_be_disjoint_pairs_of_keypoints(pairs, message):
    with pytest.raises(DataError, match=message):
        make_skeleton(["a", "b", "c"], flip_pairs=pairs)
