"""Draw one image of the synthetic data set: background, overlapping people, and occluding objects."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.datasets.synthetic.background import draw_background
from pose.datasets.synthetic.body import FACE_DIRECTIONS, Body, sample_body
from pose.datasets.synthetic.figure import PERSON_STRIDE, draw_person, sample_appearance, visible_keypoints
from pose.datasets.synthetic.paint import Canvas, Labels, background_color, box, circle, cloth_color, fill
from pose.geometry import Array
from pose.skeleton import COCO

# Difficulty. Statures are fractions of the image's height.
PERSON_COUNT_PROBABILITIES = (0.40, 0.35, 0.17, 0.08)
"""Probability of 1, 2, ... persons with keypoints."""
STATURES = (0.4, 0.92)
FAR_PERSONS_MEAN, FAR_STATURES = 0.35, (0.09, 0.14)
"""Persons that are too small for keypoints (``num_keypoints`` 0): mean number and range of statures."""
CROWD_PROBABILITY, CROWD_SIZE, CROWD_STATURES = 0.08, (7, 14), (0.11, 0.17)
OCCLUDER_PROBABILITY = 0.15
"""Probability per person of an object in front of the persons drawn so far."""
TRUNCATION_PROBABILITY = 0.12
"""Probability that a person is cut by the left or right border, and independently by the lower border."""
HORIZON = 0.48
"""Ground height of distant people, from the top of the image."""
NOISE_STD = (1.0, 4.0)
BLUR_PROBABILITY = 0.15
PLACEMENT_TRIES = 4
"""Positions tried for a person; the least crowded is used. Higher values give fewer overlaps."""
SHADOW = 0.75
"""Brightness factor of the shadow on the ground."""
# Minimum and maximum of half width, half height, and offset from the hips (x, y) of an occluder, in statures.
OCCLUDERS = (
    ((0.02, 0.4, -0.25, -0.2), (0.05, 0.9, 0.25, 0.3)),
    ((0.2, 0.05, -0.3, 0.2), (0.5, 0.2, 0.3, 0.5)),
    ((0.06, 0.06, -0.35, -0.35), (0.15, 0.15, 0.35, 0.35)),
)
MIN_VISIBLE_KEYPOINTS = 5
"""Persons with fewer visible keypoints get no keypoints, as in COCO's annotations."""
MIN_AREA_PX = 12
"""Persons with a smaller visible area are not annotated."""
_FACE = np.array([name in FACE_DIRECTIONS for name in COCO.names])


@dataclass(frozen=True)
class ScenePerson:
    """Annotation of a person or of a crowd in an image.

    Attributes:
        keypoints_image: (17, 2) in image pixels; zeros where ``visibility`` is 0.
        visibility: (17,) 2 visible, 1 hidden, 0 outside the image, on a face turned away, or of a small person.
        mask: (H, W) bool, pixels that show the person.
        crowd: a group that is annotated as one region.
    """

    keypoints_image: Array
    visibility: NDArray[np.int64]
    mask: NDArray[np.bool_]
    crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """A drawn image and its annotations.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        people: persons and crowds in the image.
    """

    image: NDArray[np.uint8]
    people: tuple[ScenePerson, ...]


@dataclass(frozen=True)
class _Placed:
    body: Body
    origin: Array
    stature_px: float
    has_keypoints: bool


def draw_scene(rng: np.random.Generator, image_wh: tuple[int, int]) -> Scene:
    """Draw a random image; all randomness comes from the generator."""
    width, height = image_wh
    canvas = draw_background(rng, image_wh)
    labels: Labels = np.zeros((height, width), np.int32)
    crowd = rng.random() < CROWD_PROBABILITY
    if crowd:
        _draw_crowd(rng, canvas, labels)
    people = _place_people(rng, image_wh)
    for number, person in enumerate(people, start=2):
        _draw_shadow(canvas, person)
        _draw_seat(rng, canvas, labels, person)
        draw_person(canvas, labels, person.body, sample_appearance(rng), person.origin, person.stature_px, number)
        if rng.random() < OCCLUDER_PROBABILITY:
            _draw_occluder(rng, canvas, labels, person)
    annotated = [_annotate(labels, person, number) for number, person in enumerate(people, start=2)]
    if crowd:
        annotated.append(ScenePerson(np.zeros((17, 2)), np.zeros(17, np.int64), _mask(labels, 1), crowd=True))
    return Scene(_apply_camera(rng, canvas), tuple(person for person in annotated if person.mask.sum() >= MIN_AREA_PX))


def _place_people(rng: np.random.Generator, image_wh: tuple[int, int]) -> list[_Placed]:
    """Sample bodies and positions, sorted from far to near."""
    width, height = image_wh
    num_near = int(rng.choice(len(PERSON_COUNT_PROBABILITIES), p=PERSON_COUNT_PROBABILITIES)) + 1
    # log-uniform: as many small as large persons
    statures = [height * STATURES[0] * (STATURES[1] / STATURES[0]) ** rng.random() for _ in range(num_near)]
    statures += [height * rng.uniform(*FAR_STATURES) for _ in range(rng.poisson(FAR_PERSONS_MEAN))]
    people: list[_Placed] = []
    for index, stature in sorted(enumerate(statures), key=lambda item: item[1]):
        body = sample_body(rng)
        # taller persons are nearer and lower in the image
        ground = height * (HORIZON + rng.normal(0, 0.04)) + stature * 0.5
        ground += stature * rng.uniform(0.1, 0.5) if rng.random() < TRUNCATION_PROBABILITY else 0.0
        origin = np.array([_least_crowded_x(rng, width, stature, people), ground - stature * _sole_y(body)])
        people.append(_Placed(body, origin, stature, index < num_near))
    return people


def _least_crowded_x(rng: np.random.Generator, width: int, stature: float, people: list[_Placed]) -> float:
    """Sample a few x positions and return the one farthest from all other persons."""
    margin = stature * (-0.15 if rng.random() < TRUNCATION_PROBABILITY else 0.2)
    candidates = rng.uniform(min(margin, width / 2), max(width - margin, width / 2), PLACEMENT_TRIES)
    distances = [min((abs(x - person.origin[0]) for person in people), default=0.0) for x in candidates]
    return float(candidates[int(np.argmax(distances))])


def _sole_y(body: Body) -> float:
    """Return the distance from the hips down to the lower foot, in statures."""
    return 0.02 + max(float(body.points[f"{side}_heel"][1]) for side in ("left", "right"))


def _draw_crowd(rng: np.random.Generator, canvas: Canvas, labels: Labels) -> None:
    """Draw a group of small people, all with person number 1."""
    height, width = labels.shape
    center = np.array([rng.uniform(0.15, 0.85) * width, (HORIZON + rng.uniform(-0.03, 0.05)) * height])
    count = rng.integers(*CROWD_SIZE)
    for offset_y in np.sort(rng.normal(0, 0.02, count)):
        origin = center + height * np.array([rng.uniform(-0.2, 0.2), offset_y])
        stature = height * rng.uniform(*CROWD_STATURES)
        draw_person(canvas, labels, sample_body(rng), sample_appearance(rng), origin, stature, 1)


def _draw_shadow(canvas: Canvas, person: _Placed) -> None:
    feet = np.array([person.body.points[f"{side}_heel"] for side in ("left", "right")])
    center = person.origin + person.stature_px * np.array([feet[:, 0].mean(), feet[:, 1].max() + 0.01])
    half = person.stature_px * np.array([0.1 + np.ptp(feet[:, 0]) / 2, 0.035])
    for factor in (1.3, 1.0):
        fill(canvas, center + circle(20) * half * factor, canvas * SHADOW, np.eye(2, 3))


def _draw_seat(rng: np.random.Generator, canvas: Canvas, labels: Labels, person: _Placed) -> None:
    """Draw a seat behind a sitting person."""
    if not person.body.sitting:
        return
    bottom = _sole_y(person.body)
    corners = np.array([(-0.17, 0.05), (0.17, 0.05), (0.19, bottom), (-0.19, bottom)])
    fill(canvas, person.origin + person.stature_px * corners, background_color(rng), labels=labels)


def _draw_occluder(rng: np.random.Generator, canvas: Canvas, labels: Labels, person: _Placed) -> None:
    """Draw a post, a table or a bush over part of a person."""
    low, high = (np.array(limits) for limits in OCCLUDERS[rng.integers(len(OCCLUDERS))])
    half_width, half_height, shift_x, shift_y = rng.uniform(low, high)
    shape = box(-1, -1, 1, 1) if rng.random() < 0.7 else circle(16)
    outline = person.origin + person.stature_px * (shape * (half_width, half_height) + (shift_x, shift_y))
    fill(canvas, outline, cloth_color(rng) * 0.8, labels=labels)


def _annotate(labels: Labels, person: _Placed, number: int) -> ScenePerson:
    """Compute the annotation of a person from the label map."""
    height, width = labels.shape
    keypoints = person.origin + person.stature_px * person.body.keypoints[:, :2]
    inside = ((keypoints >= 0) & (keypoints <= (width - 1, height - 1))).all(axis=1)
    visible = visible_keypoints(labels, person.body, keypoints, number)
    # as in COCO, keypoints of a face that is turned away are not labeled; other hidden keypoints are
    labeled = inside & (person.body.facing | ~_FACE)
    visibility = np.where(labeled, np.where(visible, 2, 1), 0)
    if not person.has_keypoints or (visibility == 2).sum() < MIN_VISIBLE_KEYPOINTS:
        visibility = np.zeros(COCO.num_keypoints, np.int64)
    keypoints = np.where(visibility[:, None] > 0, keypoints, 0.0)
    return ScenePerson(keypoints, visibility.astype(np.int64), _mask(labels, number))


def _mask(labels: Labels, number: int) -> NDArray[np.bool_]:
    return np.asarray(labels // PERSON_STRIDE == number)


def _apply_camera(rng: np.random.Generator, canvas: Canvas) -> NDArray[np.uint8]:
    """Simulate a camera: exposure, color cast, occasional blur, noise."""
    image = canvas * (rng.uniform(0.85, 1.15) * rng.uniform(0.94, 1.06, 3)).astype(np.float32)
    if rng.random() < BLUR_PROBABILITY:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.9)), np.float32)
    noise = rng.standard_normal(image.shape[:2], dtype=np.float32) * rng.uniform(*NOISE_STD)
    return np.asarray(np.clip(image + noise[..., None], 0, 255), np.uint8)
