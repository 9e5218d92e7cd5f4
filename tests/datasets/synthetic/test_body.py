"""Articulated body model: proportions, joint limits, left and right."""

import cv2
import numpy as np
import pytest

from pose.datasets.synthetic import body as bodies
from pose.datasets.synthetic.body import Build, make_body, rotation, sample_angles, sample_body
from pose.skeleton import COCO

UPRIGHT = make_body(Build(head=1.0), {}, np.eye(3))


def sample_bodies(count: int = 200) -> list[bodies.Body]:
    return [sample_body(np.random.default_rng((3, index))) for index in range(count)]


def length(body: bodies.Body, a: str, b: str) -> float:
    return float(np.linalg.norm(body.points[a] - body.points[b]))


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_rotation_is_right_handed(axis: str) -> None:
    vector = np.deg2rad(33.0) * np.array([axis == name for name in "xyz"])
    assert rotation(axis, 33.0) == pytest.approx(cv2.Rodrigues(vector)[0])


def test_the_left_side_of_a_person_facing_the_viewer_is_on_the_right_of_the_image() -> None:
    for left, right in COCO.flip_pairs:
        assert UPRIGHT.keypoints[left, 0] > 0 > UPRIGHT.keypoints[right, 0]
    behind = make_body(Build(), {}, rotation("y", 180.0))
    for left, right in COCO.flip_pairs:
        assert behind.keypoints[left, 0] < 0 < behind.keypoints[right, 0]


def test_the_face_is_visible_from_the_front_and_hidden_from_behind() -> None:
    eyes = [COCO.names.index(name) for name in ("nose", "left_eye", "right_eye")]
    assert UPRIGHT.facing.all()
    assert not make_body(Build(), {}, rotation("y", 180.0)).facing[eyes].any()


def test_in_a_side_view_the_far_shoulder_and_hip_are_hidden() -> None:
    # at a yaw of 90 degrees, the person faces the left of the image and shows their left side
    side = make_body(Build(), {}, rotation("y", 90.0))
    facing = dict(zip(COCO.names, side.facing, strict=True))
    assert side.points["nose"][0] < side.points["head"][0]
    assert facing["left_shoulder"] and facing["left_hip"] and facing["left_ear"]
    assert not facing["right_shoulder"] and not facing["right_hip"] and not facing["right_ear"]


def test_an_upright_adult_has_a_height_of_one_stature() -> None:
    crown = UPRIGHT.points["head"] + UPRIGHT.head @ (0.0, -1.0, 0.0)
    sole = UPRIGHT.points["left_heel"][1] + 0.02
    assert sole - crown[1] == pytest.approx(1.0, abs=0.05)
    order = ["nose", "left_shoulder", "left_elbow", "left_wrist", "left_knee", "left_ankle"]
    heights = [UPRIGHT.points[name][1] for name in order]
    assert heights == sorted(heights)


def test_limbs_have_the_same_length_in_every_pose_and_on_both_sides() -> None:
    for body in sample_bodies():
        for a, b, average in (
            ("shoulder", "elbow", bodies.UPPER_ARM),
            ("elbow", "wrist", bodies.FOREARM),
            ("hip", "knee", bodies.THIGH),
            ("knee", "ankle", bodies.SHANK),
        ):
            left, right = (length(body, f"{side}_{a}", f"{side}_{b}") for side in ("left", "right"))
            assert left == pytest.approx(right)
            assert left == pytest.approx(average, rel=0.08)


def test_knees_bend_backward_and_elbows_forward() -> None:
    bent = make_body(Build(), {"left_knee": 60.0, "left_elbow": 60.0}, np.eye(3))
    assert bent.points["left_ankle"][2] > bent.points["left_knee"][2] + 0.1
    assert bent.points["left_wrist"][2] < bent.points["left_elbow"][2] - 0.1


def test_raised_arms_are_above_the_head_and_abduction_moves_arms_outward() -> None:
    angles = {f"{side}_arm_abduction": 165.0 for side in ("left", "right")}
    raised = make_body(Build(), angles, np.eye(3))
    assert raised.points["left_wrist"][1] < raised.points["head"][1] - 0.1
    out = make_body(Build(), {"left_arm_abduction": 90.0, "right_arm_abduction": 90.0}, np.eye(3))
    assert out.points["left_wrist"][0] > 0.4 and out.points["right_wrist"][0] < -0.4


def test_sampled_angles_are_within_the_joint_limits_and_sitting_has_its_probability() -> None:
    rng = np.random.default_rng(0)
    sitting = 0
    for _ in range(500):
        angles, sits = sample_angles(rng)
        sitting += sits
        for name, angle in angles.items():
            low, high = bodies.JOINT_LIMITS_DEG[name.removeprefix("left_").removeprefix("right_")]
            assert low <= angle <= high, name
    assert sitting / 500 == pytest.approx(bodies.LEG_POSES["sit"][0], abs=0.06)


def test_probabilities_sum_to_one() -> None:
    for distribution in (bodies.YAWS, bodies.LEG_POSES.values(), bodies.ARM_POSES.values()):
        assert sum(entry[0] for entry in distribution) == pytest.approx(1.0)


def test_people_are_seen_from_the_front_the_back_and_the_side() -> None:
    """Left and right cannot be inferred from the position alone."""
    shoulders = np.array(
        [body.points["left_shoulder"][0] - body.points["right_shoulder"][0] for body in sample_bodies(300)]
    )
    assert 0.4 < (shoulders > 0.1).mean() < 0.75
    assert 0.15 < (shoulders < -0.1).mean() < 0.45
    assert 0.05 < (np.abs(shoulders) < 0.1).mean() < 0.3
