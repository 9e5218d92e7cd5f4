"""One image of the embedded data set: background, clutter, people in front of each other, things before them."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.datasets.synthetic.background import draw_background
from pose.datasets.synthetic.body import FACE_DIRECTIONS, Body, sample_body
from pose.datasets.synthetic.figure import PERSON_STRIDE, draw_person, sample_looks, visible_keypoints
from pose.datasets.synthetic.paint import Canvas, Labels, box, cloth_color, dull_color, fill, ring
from pose.geometry import Array
from pose.skeleton import COCO

# Difficulty. Statures are fractions of the image's height.
PERSONS = (0.40, 0.35, 0.17, 0.08)
"""Probability of 1, 2, ... persons with keypoints."""
STATURES = (0.4, 0.92)
FAR_PERSONS_MEAN, FAR_STATURES = 0.35, (0.09, 0.14)
"""Persons too small for keypoints (``num_keypoints`` 0)."""
CROWD_PROBABILITY, CROWD_SIZE, CROWD_STATURES = 0.08, (7, 14), (0.11, 0.17)
OBJECT_PROBABILITY = 0.15
"""That a thing stands before the persons drawn so far; asked once a person."""
TRUNCATION_PROBABILITY = 0.12
"""Of standing across a side border of the image, and again of its lower one."""
HORIZON = 0.48
"""Height in the image, from above, about which distant people stand."""
NOISE_STD = (1.0, 4.0)
BLUR_PROBABILITY = 0.15
SPREAD = 4
"""Places tried for a person, of which the freest is taken: 1 for many overlaps, more for fewer."""
SHADOW = 0.75
# Lowest and highest half width, half height, and place beside the hips (x, y) of a thing, in statures.
OBJECTS = (
    ((0.02, 0.4, -0.25, -0.2), (0.05, 0.9, 0.25, 0.3)),
    ((0.2, 0.05, -0.3, 0.2), (0.5, 0.2, 0.3, 0.5)),
    ((0.06, 0.06, -0.35, -0.35), (0.15, 0.15, 0.35, 0.35)),
)
MIN_LABELLED_VISIBLE = 5
"""Persons of whom fewer keypoints are seen get none, as annotators would leave them."""
MIN_AREA_PX = 12
_FACE = np.array([name in FACE_DIRECTIONS for name in COCO.names])


@dataclass(frozen=True)
class ScenePerson:
    """What the image shows of a person, or of a crowd.

    Attributes:
        keypoints_image: (17, 2) image pixels, zeros where ``visibility`` is 0.
        visibility: (17,) 2 seen, 1 hidden, 0 outside the image, on a face turned away, or of someone too small.
        mask: (H, W) bool, the pixels that show the person.
        crowd: a group nobody would annotate one by one.
    """

    keypoints_image: Array
    visibility: NDArray[np.int64]
    mask: NDArray[np.bool_]
    crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """An image (H, W, 3) uint8 BGR and the people in it."""

    image: NDArray[np.uint8]
    people: tuple[ScenePerson, ...]


@dataclass(frozen=True)
class _Placed:
    body: Body
    origin: Array
    stature_px: float
    labelled: bool


def draw_scene(rng: np.random.Generator, image_wh: tuple[int, int]) -> Scene:
    """Draw one image; the generator decides everything."""
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
        draw_person(canvas, labels, person.body, sample_looks(rng), person.origin, person.stature_px, number)
        if rng.random() < OBJECT_PROBABILITY:
            _draw_object(rng, canvas, labels, person)
    shown = [_annotate(labels, person, number) for number, person in enumerate(people, start=2)]
    if crowd:
        shown.append(ScenePerson(np.zeros((17, 2)), np.zeros(17, np.int64), _mask(labels, 1), crowd=True))
    return Scene(_finish(rng, canvas), tuple(person for person in shown if person.mask.sum() >= MIN_AREA_PX))


def _place_people(rng: np.random.Generator, image_wh: tuple[int, int]) -> list[_Placed]:
    """Draw the bodies and where they stand, from far to near."""
    width, height = image_wh
    near = int(rng.choice(len(PERSONS), p=PERSONS)) + 1
    # as many small as large ones: uniform in the logarithm
    statures = [height * STATURES[0] * (STATURES[1] / STATURES[0]) ** rng.random() for _ in range(near)]
    statures += [height * rng.uniform(*FAR_STATURES) for _ in range(rng.poisson(FAR_PERSONS_MEAN))]
    people: list[_Placed] = []
    for index, stature in sorted(enumerate(statures), key=lambda item: item[1]):
        body = sample_body(rng)
        # who is taller in the image is nearer and stands lower in it
        ground = height * (HORIZON + rng.normal(0, 0.04)) + stature * 0.5
        ground += stature * rng.uniform(0.1, 0.5) if rng.random() < TRUNCATION_PROBABILITY else 0.0
        origin = np.array([_free_place(rng, width, stature, people), ground - stature * _sole(body)])
        people.append(_Placed(body, origin, stature, index < near))
    return people


def _free_place(rng: np.random.Generator, width: int, stature: float, people: list[_Placed]) -> float:
    """Draw a few places from left to right and return the one farthest from everybody else."""
    margin = stature * (-0.15 if rng.random() < TRUNCATION_PROBABILITY else 0.2)
    places = rng.uniform(min(margin, width / 2), max(width - margin, width / 2), SPREAD)
    gaps = [min((abs(place - person.origin[0]) for person in people), default=0.0) for place in places]
    return float(places[int(np.argmax(gaps))])


def _sole(body: Body) -> float:
    """Return how far below the hips the lower foot is, in statures."""
    return 0.02 + max(float(body.points[f"{side}_heel"][1]) for side in ("left", "right"))


def _draw_crowd(rng: np.random.Generator, canvas: Canvas, labels: Labels) -> None:
    """Paint a group of small people, all with the number 1."""
    height, width = labels.shape
    center = np.array([rng.uniform(0.15, 0.85) * width, (HORIZON + rng.uniform(-0.03, 0.05)) * height])
    count = rng.integers(*CROWD_SIZE)
    for step in np.sort(rng.normal(0, 0.02, count)):
        origin = center + height * np.array([rng.uniform(-0.2, 0.2), step])
        stature = height * rng.uniform(*CROWD_STATURES)
        draw_person(canvas, labels, sample_body(rng), sample_looks(rng), origin, stature, 1)


def _draw_shadow(canvas: Canvas, person: _Placed) -> None:
    feet = np.array([person.body.points[f"{side}_heel"] for side in ("left", "right")])
    center = person.origin + person.stature_px * np.array([feet[:, 0].mean(), feet[:, 1].max() + 0.01])
    half = person.stature_px * np.array([0.1 + np.ptp(feet[:, 0]) / 2, 0.035])
    for grow in (1.3, 1.0):
        fill(canvas, center + ring(20) * half * grow, canvas * SHADOW, np.eye(2, 3))


def _draw_seat(rng: np.random.Generator, canvas: Canvas, labels: Labels, person: _Placed) -> None:
    """Paint a box behind a person who sits."""
    if not person.body.sitting:
        return
    bottom = _sole(person.body)
    corners = np.array([(-0.17, 0.05), (0.17, 0.05), (0.19, bottom), (-0.19, bottom)])
    fill(canvas, person.origin + person.stature_px * corners, dull_color(rng), labels=labels)


def _draw_object(rng: np.random.Generator, canvas: Canvas, labels: Labels, person: _Placed) -> None:
    """Paint a post, a table or a bush over part of a person."""
    low, high = (np.array(limits) for limits in OBJECTS[rng.integers(len(OBJECTS))])
    half_width, half_height, shift_x, shift_y = rng.uniform(low, high)
    shape = box(-1, -1, 1, 1) if rng.random() < 0.7 else ring(16)
    outline = person.origin + person.stature_px * (shape * (half_width, half_height) + (shift_x, shift_y))
    fill(canvas, outline, cloth_color(rng) * 0.8, labels=labels)


def _annotate(labels: Labels, person: _Placed, number: int) -> ScenePerson:
    """Read from the label map what is left to see of a person."""
    height, width = labels.shape
    keypoints = person.origin + person.stature_px * person.body.keypoints[:, :2]
    inside = ((keypoints >= 0) & (keypoints <= (width - 1, height - 1))).all(axis=1)
    seen = visible_keypoints(labels, person.body, keypoints, number)
    # a face turned away is not labelled, as COCO's annotators do; what else is hidden is
    known = inside & (person.body.facing | ~_FACE)
    visibility = np.where(known, np.where(seen, 2, 1), 0)
    if not person.labelled or (visibility == 2).sum() < MIN_LABELLED_VISIBLE:
        visibility = np.zeros(COCO.num_keypoints, np.int64)
    keypoints = np.where(visibility[:, None] > 0, keypoints, 0.0)
    return ScenePerson(keypoints, visibility.astype(np.int64), _mask(labels, number))


def _mask(labels: Labels, number: int) -> NDArray[np.bool_]:
    return np.asarray(labels // PERSON_STRIDE == number)


def _finish(rng: np.random.Generator, canvas: Canvas) -> NDArray[np.uint8]:
    """Apply the camera: exposure, a cast, sometimes blur, noise."""
    image = canvas * (rng.uniform(0.85, 1.15) * rng.uniform(0.94, 1.06, 3)).astype(np.float32)
    if rng.random() < BLUR_PROBABILITY:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.9)), np.float32)
    noise = rng.standard_normal(image.shape[:2], dtype=np.float32) * rng.uniform(*NOISE_STD)
    return np.asarray(np.clip(image + noise[..., None], 0, 255), np.uint8)
