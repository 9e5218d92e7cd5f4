"""A drawn clip of people with known numbers, boxes and keypoints."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pose.datasets.synthetic.background import draw_background
from pose.datasets.synthetic.body import make_body, rotation, sample_build
from pose.datasets.synthetic.figure import PERSON_STRIDE, draw_person, sample_appearance

CLIP_WH = (640, 360)
CLIP_FPS = 15.0
MIN_VISIBLE = 0.5
"""Fraction of a person's usual area (.13 of the squared stature) below which a detector is expected to miss it."""


class ClipFrame(NamedTuple):
    """One frame: image (H, W, 3), and of the N persons in sight number, box xywh and keypoints (17, 2)."""

    image: NDArray[np.uint8]
    numbers: list[int]
    bboxes_xywh: NDArray[np.float64]
    keypoints: NDArray[np.float64]


def walking_people(frames: int = 90, people: int = 4, seed: int = 3) -> list[ClipFrame]:
    """Draw people who walk through the image in both directions at different distances, and hide each other."""
    rng = np.random.default_rng(seed)
    background = draw_background(rng, CLIP_WH)
    walkers = [
        # build, clothes, direction, start (pixels), speed (pixels per second), stature (pixels), phase
        (sample_build(rng), sample_appearance(rng), 1 - 2 * (i % 2), rng.uniform(0, 300), rng.uniform(50, 110),
         190.0 + 15 * i, rng.uniform(0, 6))
        for i in range(people)
    ]  # fmt: skip
    clip = []
    for index in range(frames):
        canvas, labels = background.copy(), np.zeros(CLIP_WH[::-1], np.int32)
        bodies = []
        for number, (build, clothes, direction, start, speed, stature, phase) in enumerate(walkers, start=1):
            time_s = index / CLIP_FPS
            x = start + speed * time_s if direction > 0 else CLIP_WH[0] - start - speed * time_s
            swing = np.sin(phase + 5 * time_s)
            angles = {"left_hip_flexion": 25 * swing, "right_hip_flexion": -25 * swing, "left_knee": 20 - 15 * swing,
                      "right_knee": 20 + 15 * swing, "left_arm_flexion": -20 * swing, "right_arm_flexion": 20 * swing,
                      "left_elbow": 20.0, "right_elbow": 20.0}  # fmt: skip
            body = make_body(build, angles, rotation("y", -60.0 * direction))
            origin = np.array([x, 250.0 + 12 * number - 0.5 * stature + 75])
            draw_person(canvas, labels, body, clothes, origin, stature, number)
            bodies.append((number, origin + stature * body.keypoints[:, :2], 0.13 * stature**2))
        numbers, boxes, keypoints = [], [], []
        for number, points, area in bodies:
            rows, columns = np.nonzero(np.asarray(labels // PERSON_STRIDE == number))
            if len(rows) > MIN_VISIBLE * area:
                numbers.append(number)
                boxes.append([columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1])
                keypoints.append(points)
        image = np.clip(canvas, 0, 255).astype(np.uint8)
        clip.append(ClipFrame(image, numbers, np.array(boxes).reshape(-1, 4), np.array(keypoints).reshape(-1, 17, 2)))
    return clip
