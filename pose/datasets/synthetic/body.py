"""Articulated body model of the synthetic data set: joint angles within human limits to 3D points.

Camera frame: x to the right of the image, y down, z away from the viewer. The unit is the person's stature, the origin
is the midpoint of the hips. At yaw 0 the person faces the viewer, so their left side is at positive x. `figure` draws
the body.

Segment lengths: Drillis and Contini, *Body Segment Parameters* (1966), as fractions of stature. The head is larger than
in reality so that the face is visible in small images.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.geometry import Array
from pose.skeleton import COCO

SHOULDER_HALF_WIDTH, HIP_HALF_WIDTH, WAIST_HALF_WIDTH = 0.129, 0.0955, 0.05
TRUNK, NECK = 0.288, 0.045
UPPER_ARM, FOREARM, HAND = 0.186, 0.146, 0.07
THIGH, SHANK, FOOT, HEEL = 0.245, 0.246, 0.11, 0.035
HEAD_SEMI_AXES = (0.054, 0.072, 0.062)
"""Semi-axes of the head ellipsoid (width, height, depth) before scaling by `Build.head`."""

FACE_DIRECTIONS = {
    "nose": (0.0, 0.16, -1.12),
    "left_eye": (0.40, -0.14, -0.90),
    "right_eye": (-0.40, -0.14, -0.90),
    "left_ear": (0.96, 0.05, 0.1),
    "right_ear": (-0.96, 0.05, 0.1),
}
"""Positions of the face keypoints, in semi-axes of the head."""

JOINT_LIMITS_DEG = {
    "hip_flexion": (-25.0, 115.0),
    "hip_abduction": (-5.0, 45.0),
    "knee": (0.0, 140.0),
    "arm_flexion": (-45.0, 150.0),
    "arm_abduction": (-5.0, 170.0),
    "arm_twist": (-90.0, 90.0),
    "elbow": (0.0, 145.0),
    "trunk_bend": (-15.0, 45.0),
    "trunk_lean": (-25.0, 25.0),
    "trunk_twist": (-35.0, 35.0),
    "head_turn": (-65.0, 65.0),
    "head_nod": (-30.0, 35.0),
    "head_tilt": (-25.0, 25.0),
}

Range = tuple[float, float]

# Each pose: probability, angle ranges of the leading and of the trailing leg; other angles are drawn from LEG_REST.
LEG_REST: dict[str, Range] = {"hip_flexion": (-5, 8), "hip_abduction": (1, 10), "knee": (0, 8)}
LEG_POSES: dict[str, tuple[float, dict[str, Range], dict[str, Range]]] = {
    "stand": (0.42, {}, {}),
    "contrapposto": (0.12, {"hip_flexion": (5, 20), "knee": (10, 35)}, {}),
    "walk": (
        0.20,
        {"hip_flexion": (15, 38), "knee": (0, 25), "hip_abduction": (0, 5)},
        {"hip_flexion": (-22, -5), "knee": (8, 55), "hip_abduction": (0, 5)},
    ),
    "wide": (0.08, {"hip_abduction": (14, 32)}, {"hip_abduction": (14, 32)}),
    "lift": (0.06, {"hip_flexion": (45, 90), "knee": (50, 110)}, {"knee": (0, 25)}),
    "sit": (
        0.12,
        {"hip_flexion": (72, 100), "knee": (55, 105), "hip_abduction": (3, 18)},
        {"hip_flexion": (72, 100), "knee": (55, 105), "hip_abduction": (3, 18)},
    ),
}
ARM_REST: dict[str, Range] = {
    "arm_flexion": (-12, 15), "arm_abduction": (4, 18), "arm_twist": (0, 30), "elbow": (3, 35),
}  # fmt: skip
ARM_POSES: dict[str, tuple[float, dict[str, Range]]] = {
    "hang": (0.44, {}),
    "bent": (0.18, {"arm_flexion": (0, 35), "arm_twist": (-20, 60), "elbow": (50, 125)}),
    "on_hip": (0.10, {"arm_flexion": (-20, 0), "arm_abduction": (35, 50), "arm_twist": (65, 85), "elbow": (75, 100)}),
    "raised": (0.14, {"arm_abduction": (115, 168), "arm_twist": (-85, -30), "elbow": (0, 75)}),
    "out": (0.08, {"arm_abduction": (55, 100), "arm_twist": (-85, 40), "elbow": (0, 90)}),
    "forward": (0.06, {"arm_flexion": (45, 110), "arm_abduction": (0, 25), "elbow": (0, 60)}),
}
TRUNK_RANGES: dict[str, Range] = {
    "trunk_bend": (-4, 12), "trunk_lean": (-8, 8), "trunk_twist": (-15, 15), "head_turn": (-35, 35),
    "head_nod": (-12, 18), "head_tilt": (-12, 12),
}  # fmt: skip

LEANING_PROBABILITY, SAME_ARMS_PROBABILITY = 0.15, 0.45
# Probability and yaw range: front, back, oblique and side view.
YAWS: tuple[tuple[float, Range], ...] = ((0.60, (-30, 30)), (0.25, (150, 210)), (0.10, (30, 75)), (0.05, (75, 125)))
CAMERA_PITCH_DEG, ROLL_STD_DEG = (0.0, 14.0), 4.0
SELF_OCCLUSION_DEPTH = 0.65
"""The trunk hides a shoulder or hip that is farther behind its center than this fraction of its half width."""


@dataclass(frozen=True)
class Build:
    """Body proportions as factors; 1 is the average adult.

    Attributes:
        head: size of the head.
        girth: thickness of trunk and limbs.
        shoulders: width of the shoulders.
        arms: length of the arms.
        legs: length of the legs.
    """

    head: float = 1.25
    girth: float = 1.0
    shoulders: float = 1.0
    arms: float = 1.0
    legs: float = 1.0


@dataclass(frozen=True)
class Body:
    """A posed person in 3D.

    Attributes:
        points: (3,) points in statures by name: the 17 COCO keypoints and head, neck, waist, hands, heels and so on.
        keypoints: (17, 3) the COCO keypoints of ``points``.
        facing: (17,) bool, False where the keypoint is occluded by the person's own trunk or head.
        head: (3, 3) rotation of the head times its semi-axes; maps the unit sphere to statures.
        sitting: whether the person sits, and a seat is drawn.
        girth: thickness of trunk and limbs, as in `Build`.
    """

    points: Mapping[str, Array]
    keypoints: Array
    facing: NDArray[np.bool_]
    head: Array
    sitting: bool
    girth: float


def rotation(axis: str, angle_deg: float) -> Array:
    """Return the (3, 3) right-handed rotation matrix about ``axis`` ("x", "y" or "z")."""
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    matrix = np.eye(3)
    matrix[first, first], matrix[first, second] = cos, -sin
    matrix[second, first], matrix[second, second] = sin, cos
    return matrix


def sample_build(rng: np.random.Generator) -> Build:
    """Sample body proportions."""
    head, girth = rng.uniform(1.15, 1.5), rng.uniform(0.85, 1.3)
    shoulders, arms, legs = rng.uniform((0.88, 0.94, 0.93), (1.1, 1.06, 1.05))
    return Build(float(head), float(girth), float(shoulders), float(arms), float(legs))


def sample_yaw(rng: np.random.Generator) -> float:
    """Sample a yaw in degrees; 0 faces the viewer, 180 faces away."""
    index = rng.choice(len(YAWS), p=[probability for probability, _ in YAWS])
    yaw = float(rng.uniform(*YAWS[index][1]))
    return yaw if rng.random() < 0.5 else -yaw


def sample_angles(rng: np.random.Generator) -> tuple[dict[str, float], bool]:
    """Sample the joint angles of a pose.

    Returns:
        angles in degrees by name (``left_knee``, ``trunk_bend``, ...), clipped to `JOINT_LIMITS_DEG`, and whether the
        person sits.
    """
    legs = str(rng.choice(list(LEG_POSES), p=[pose[0] for pose in LEG_POSES.values()]))
    sides = ("left", "right") if rng.random() < 0.5 else ("right", "left")
    angles = _sample_ranges(rng, TRUNK_RANGES)
    if rng.random() < LEANING_PROBABILITY:
        angles |= _sample_ranges(rng, {"trunk_bend": (15, 40), "trunk_lean": (-22, 22)})
    arm = _sample_arm_pose(rng)
    for side, leg in zip(sides, LEG_POSES[legs][1:], strict=True):
        angles |= _sample_ranges(rng, LEG_REST | leg, f"{side}_")
        angles |= _sample_ranges(rng, ARM_REST | ARM_POSES[arm][1], f"{side}_")
        arm = arm if rng.random() < SAME_ARMS_PROBABILITY else _sample_arm_pose(rng)
    return {name: _clipped(name, angle) for name, angle in angles.items()}, legs == "sit"


def sample_body(rng: np.random.Generator) -> Body:
    """Sample a person: proportions, pose and orientation."""
    build = sample_build(rng)
    angles, sitting = sample_angles(rng)
    yaw, roll, pitch = sample_yaw(rng), rng.normal(0, ROLL_STD_DEG), rng.uniform(*CAMERA_PITCH_DEG)
    return make_body(build, angles, rotation("x", pitch) @ rotation("z", roll) @ rotation("y", yaw), sitting)


def make_body(build: Build, angles: Mapping[str, float], root: Array, sitting: bool = False) -> Body:
    """Compute the 3D points of a pose (forward kinematics).

    Args:
        build: body proportions.
        angles: degrees by name, as from `sample_angles`; missing angles are 0.
        root: (3, 3) rotation of the pelvis.
        sitting: copied to the result.
    """
    angle = {name: angles.get(name, 0.0) for name in _angle_names()}
    trunk = root @ rotation("y", angle["trunk_twist"]) @ rotation("z", angle["trunk_lean"])
    trunk = trunk @ rotation("x", angle["trunk_bend"])
    head = trunk @ rotation("y", angle["head_turn"]) @ rotation("z", angle["head_tilt"])
    head = head @ rotation("x", angle["head_nod"]) @ np.diag(np.multiply(HEAD_SEMI_AXES, build.head))
    neck = trunk @ (0.0, -TRUNK - 0.02, 0.0)
    points = {"neck": neck, "head": neck + trunk @ (0.0, -NECK, -0.012) + head @ (0.0, -0.75, 0.0)}
    points |= {"chest": trunk @ (0.0, -0.2, -0.005), "hair_tip": trunk @ (0.0, -TRUNK + 0.05, 0.07)}
    points |= {name: points["head"] + head @ direction for name, direction in FACE_DIRECTIONS.items()}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder = trunk @ (sign * SHOULDER_HALF_WIDTH * build.shoulders, -TRUNK, 0.0)
        points[f"{side}_waist"] = trunk @ (sign * WAIST_HALF_WIDTH, -0.09, 0.0)
        points |= _arm(side, sign, angle, trunk, shoulder, build.arms)
        points |= _leg(side, sign, angle, root, root @ (sign * HIP_HALF_WIDTH, 0.0, 0.0), build.legs)
    keypoints = np.array([points[name] for name in COCO.names])
    return Body(points, keypoints, _facing(points), head, sitting, build.girth)


def _arm(
    side: str, sign: float, angle: Mapping[str, float], trunk: Array, shoulder: Array, length: float
) -> dict[str, Array]:
    upper = trunk @ rotation("z", -sign * angle[f"{side}_arm_abduction"])
    upper = upper @ rotation("x", -angle[f"{side}_arm_flexion"]) @ rotation("y", sign * angle[f"{side}_arm_twist"])
    fore = upper @ rotation("x", -angle[f"{side}_elbow"])
    elbow = shoulder + upper[:, 1] * UPPER_ARM * length
    wrist = elbow + fore[:, 1] * FOREARM * length
    hand = wrist + fore[:, 1] * HAND * length
    return {f"{side}_shoulder": shoulder, f"{side}_elbow": elbow, f"{side}_wrist": wrist, f"{side}_hand": hand}


def _leg(
    side: str, sign: float, angle: Mapping[str, float], pelvis: Array, hip: Array, length: float
) -> dict[str, Array]:
    thigh = pelvis @ rotation("z", -sign * angle[f"{side}_hip_abduction"])
    thigh = thigh @ rotation("x", -angle[f"{side}_hip_flexion"]) @ rotation("y", -sign * 8.0)
    shank = thigh @ rotation("x", angle[f"{side}_knee"])
    knee = hip + thigh[:, 1] * THIGH * length
    ankle = knee + shank[:, 1] * SHANK * length
    sole = ankle + shank[:, 1] * 0.025
    return {
        f"{side}_hip": hip, f"{side}_knee": knee, f"{side}_ankle": ankle,
        f"{side}_heel": sole + shank[:, 2] * HEEL, f"{side}_toe": sole - shank[:, 2] * FOOT,
    }  # fmt: skip


def _facing(points: Mapping[str, Array]) -> NDArray[np.bool_]:
    """Return which keypoints are not occluded by the person's own head (face) or trunk (shoulders and hips)."""
    max_depth = {"shoulder": points["neck"][2] + SELF_OCCLUSION_DEPTH * SHOULDER_HALF_WIDTH}
    max_depth["hip"] = SELF_OCCLUSION_DEPTH * HIP_HALF_WIDTH
    max_depth |= dict.fromkeys(("nose", "eye", "ear"), points["head"][2] + 0.02)
    depths = [(points[name][2], max_depth.get(name.split("_")[-1], np.inf)) for name in COCO.names]
    return np.array([depth <= limit for depth, limit in depths])


def _sample_ranges(rng: np.random.Generator, ranges: Mapping[str, Range], prefix: str = "") -> dict[str, float]:
    return {prefix + name: float(rng.uniform(*limits)) for name, limits in ranges.items()}


def _sample_arm_pose(rng: np.random.Generator) -> str:
    return str(rng.choice(list(ARM_POSES), p=[pose[0] for pose in ARM_POSES.values()]))


def _clipped(name: str, angle: float) -> float:
    low, high = JOINT_LIMITS_DEG[name.removeprefix("left_").removeprefix("right_")]
    return min(max(angle, low), high)


def _angle_names() -> list[str]:
    unpaired = ("trunk", "head")
    names = [name for name in JOINT_LIMITS_DEG if name.startswith(unpaired)]
    paired = [name for name in JOINT_LIMITS_DEG if not name.startswith(unpaired)]
    return names + [f"{side}_{name}" for side in ("left", "right") for name in paired]
