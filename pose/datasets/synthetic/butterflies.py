"""Draw butterflies from above, the subject of the worked example in docs/custom_keypoints.md."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.datasets.synthetic.background import draw_background
from pose.datasets.synthetic.paint import Canvas, Labels, circle, cloth_color, fill
from pose.datasets.synthetic.scene import NOISE_STD, Scene, ScenePerson
from pose.geometry import Array

CATEGORY: dict[str, Any] = {
    "supercategory": "animal",
    "id": 1,
    "name": "butterfly",
    "keypoints": ["head", "body", "tail", "wing_l", "wing_r"],
    "skeleton": [[1, 2], [2, 3], [2, 4], [2, 5]],
}

TWO_PROBABILITY = 0.3
"""Probability of a second butterfly in an image."""
HALF_SPANS = (0.18, 0.38)
"""Range of half the wing span, as a fraction of the image's shorter side."""
TURN_LIMIT_DEG = 70.0
"""Largest rotation of the body from upright: enough that left wings also lie on the right of the image."""
HEAD, TAIL = (0.0, -0.5), (0.0, 0.5)
WING_TIP, HIND_TIP = (1.0, -0.55), (0.7, 0.62)
"""Points of the right side of an open butterfly, in half spans from the middle of the body; y points to the tail."""
MIN_OPENING = 0.6
"""Factor of the wings' reach when they are most closed."""


@dataclass(frozen=True)
class _Butterfly:
    keypoints_image: Array
    hind_tips: Array
    half_span_px: float


def draw_butterflies(rng: np.random.Generator, image_wh: tuple[int, int]) -> Scene:
    """Draw an image with one or two butterflies; all randomness comes from the generator."""
    width, height = image_wh
    canvas = draw_background(rng, image_wh)
    labels: Labels = np.zeros((height, width), np.int32)
    count = 2 if rng.random() < TWO_PROBABILITY else 1
    butterflies = [_place(rng, image_wh) for _ in range(count)]
    for number, butterfly in enumerate(butterflies, start=1):
        _draw(rng, canvas, labels, butterfly, number)
    canvas += rng.normal(0, rng.uniform(*NOISE_STD), canvas.shape).astype(np.float32)
    annotated = [_annotate(labels, butterfly, number) for number, butterfly in enumerate(butterflies, start=1)]
    visible = tuple(entry for entry in annotated if (entry.visibility == 2).sum() > 1)
    return Scene(canvas.clip(0, 255).astype(np.uint8), visible)


def _place(rng: np.random.Generator, image_wh: tuple[int, int]) -> _Butterfly:
    half_span = float(rng.uniform(*HALF_SPANS) * min(image_wh))
    center = rng.uniform(0.15, 0.85, 2) * image_wh
    angle = np.deg2rad(rng.uniform(-TURN_LIMIT_DEG, TURN_LIMIT_DEG))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def to_image(points: Any) -> Array:
        return np.asarray(center + half_span * np.asarray(points) @ turn.T, dtype=np.float64)

    left, right = rng.uniform(MIN_OPENING, 1, 2)
    (x, y), (hind_x, hind_y) = WING_TIP, HIND_TIP
    keypoints = to_image([HEAD, (0, 0), TAIL, (-left * x, y), (right * x, y)])
    return _Butterfly(keypoints, to_image([(-left * hind_x, hind_y), (right * hind_x, hind_y)]), half_span)


def _draw(rng: np.random.Generator, canvas: Canvas, labels: Labels, butterfly: _Butterfly, number: int) -> None:
    head, body, tail, *wing_tips = butterfly.keypoints_image
    size = butterfly.half_span_px
    shoulder, waist = body + (head - body) * 0.4, body + (tail - body) * 0.3
    wing, spot, dark = cloth_color(rng), cloth_color(rng), cloth_color(rng) * 0.3
    for start, tip, wide in [(waist, tip, 0.3) for tip in butterfly.hind_tips] + [
        (shoulder, t, 0.33) for t in wing_tips
    ]:
        fill(canvas, _ellipse(start, tip, wide * size), wing * 0.55, labels=labels, label=number)
        fill(canvas, _ellipse(start + (tip - start) * 0.04, start + (tip - start) * 0.94, wide * size * 0.85), wing)
        middle = start + (tip - start) * 0.62
        fill(canvas, _ellipse(middle, middle + (tip - start) * 0.2, wide * size * 0.35), spot)
    fill(canvas, _ellipse(head, tail, 0.09 * size), dark, labels=labels, label=number)
    fill(canvas, head + circle(16) * 0.11 * size, dark * 0.6, labels=labels, label=number)
    for tip in wing_tips:
        antenna = head + (head - body) * 0.6 + (tip - body) * 0.16
        fill(canvas, _ellipse(head, antenna, max(0.5, 0.018 * size)), dark * 0.6)


def _ellipse(start: Array, end: Array, half_width: float) -> Array:
    """Return the outline (32, 2) of an ellipse with a main axis from ``start`` to ``end``."""
    axis = (end - start) / 2
    across = np.array([-axis[1], axis[0]]) / max(float(np.hypot(*axis)), 1e-9) * half_width
    return np.asarray((start + end) / 2 + circle(32) @ np.stack([axis, across]), dtype=np.float64)


def _annotate(labels: NDArray[np.int32], butterfly: _Butterfly, number: int) -> ScenePerson:
    """Mark keypoints outside the image as not labeled, and those behind another butterfly as hidden."""
    height, width = labels.shape
    keypoints = butterfly.keypoints_image
    inside: NDArray[np.bool_] = np.all((keypoints >= 0) & (keypoints <= (width - 1, height - 1)), axis=1)
    columns, rows = keypoints.round().astype(int).clip(0, (width - 1, height - 1)).T
    covered = ~np.isin(labels[rows, columns], (0, number))  # 0: at the very tip of a wing
    visibility = np.where(inside, np.where(covered, 1, 2), 0)
    return ScenePerson(np.where(inside[:, None], keypoints, 0), visibility, labels == number)
