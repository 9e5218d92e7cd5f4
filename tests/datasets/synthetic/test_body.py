"""The articulated body: proportions, joint limits, sides."""

import cv2
import numpy as np
import pytest

from pose.datasets.synthetic import body as bodies
from pose.datasets.synthetic.body import Build, make_body, rotation, sample_angles, sample_body
from pose.skeleton import COCO

UPRIGHT = make_body(Build(head=1.0), {}, np.eye(3))


def many(count: int = 200) -> list[bodies.Body]:
    return [sample_body(np.random.default_rng((3, index))) for index in range(count)]


def length(body: bodies.Body, a: str, b: str) -> float:
    return float(np.linalg.norm(body.points[a] - body.points[b]))


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_rotation_is_right_handed(axis: str) -> None:
    vector = np.deg2rad(33.0) * np.array([axis == name for name in "xyz"])
    assert rotation(axis, 33.0) == pytest.approx(cv2.Rodrigues(vector)[0])


def test_facing_the_viewer_puts_left_on_the_images_right() -> None:
    for left, right in COCO.flip_pairs:
        assert UPRIGHT.keypoints[left, 0] > 0 > UPRIGHT.keypoints[right, 0]
    behind = make_body(Build(), {}, rotation("y", 180.0))
    for left, right in COCO.flip_pairs:
        assert behind.keypoints[left, 0] < 0 < behind.keypoints[right, 0]


def test_the_face_shows_from_the_front_and_hides_from_behind() -> None:
    eyes = [COCO.names.index(name) for name in ("nose", "left_eye", "right_eye")]
    assert UPRIGHT.facing.all()
    assert not make_body(Build(), {}, rotation("y", 180.0)).facing[eyes].any()


def test_from_the_side_the_far_shoulder_and_hip_are_hidden() -> None:
    # turned by 90 degrees the person looks to the image's left and shows their left side
    side = make_body(Build(), {}, rotation("y", 90.0))
    facing = dict(zip(COCO.names, side.facing, strict=True))
    assert side.points["nose"][0] < side.points["head"][0]
    assert facing["left_shoulder"] and facing["left_hip"] and facing["left_ear"]
    assert not facing["right_shoulder"] and not facing["right_hip"] and not facing["right_ear"]


def test_an_upright_adult_is_one_stature_high() -> None:
    crown = UPRIGHT.points["head"] + UPRIGHT.head @ (0.0, -1.0, 0.0)
    sole = UPRIGHT.points["left_heel"][1] + 0.02
    assert sole - crown[1] == pytest.approx(1.0, abs=0.05)
    order = ["nose", "left_shoulder", "left_elbow", "left_wrist", "left_knee", "left_ankle"]
    heights = [UPRIGHT.points[name][1] for name in order]
    assert heights == sorted(heights)


def test_limbs_keep_their_length_in_every_pose_and_both_sides_are_equal() -> None:
    for body in many():
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


def test_raised_arms_are_above_the_head_and_abduction_leads_outward() -> None:
    angles = {f"{side}_arm_abduction": 165.0 for side in ("left", "right")}
    raised = make_body(Build(), angles, np.eye(3))
    assert raised.points["left_wrist"][1] < raised.points["head"][1] - 0.1
    out = make_body(Build(), {"left_arm_abduction": 90.0, "right_arm_abduction": 90.0}, np.eye(3))
    assert out.points["left_wrist"][0] > 0.4 and out.points["right_wrist"][0] < -0.4


def test_every_angle_is_drawn_within_the_joint_limits_and_all_poses_occur() -> None:
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
    for shares in (bodies.YAWS, bodies.LEG_POSES.values(), bodies.ARM_POSES.values()):
        assert sum(share[0] for share in shares) == pytest.approx(1.0)


def test_people_turn_front_back_and_side() -> None:
    """So that left and right cannot be told from position alone."""
    shoulders = np.array([body.points["left_shoulder"][0] - body.points["right_shoulder"][0] for body in many(300)])
    assert 0.4 < (shoulders > 0.1).mean() < 0.75
    assert 0.15 < (shoulders < -0.1).mean() < 0.45
    assert 0.05 < (np.abs(shoulders) < 0.1).mean() < 0.3
