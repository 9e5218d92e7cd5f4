"""Drawn persons and scenes agree with their keypoints."""

import cv2
import numpy as np
import pytest

from pose.datasets.synthetic import figure as figures
from pose.datasets.synthetic.background import draw_background
from pose.datasets.synthetic.body import Body, Build, make_body, rotation, sample_body
from pose.datasets.synthetic.figure import PERSON_STRIDE, draw_person, sample_appearance, visible_keypoints
from pose.datasets.synthetic.paint import Canvas, Labels, box, circle, fill, make_tile
from pose.datasets.synthetic.scene import draw_scene
from pose.skeleton import COCO

ORIGIN, STATURE = np.array([100.3, 110.7]), 180.0


def draw_body(body: Body, seed: int = 0) -> tuple[Canvas, Labels]:
    canvas, labels = np.zeros((230, 200, 3), np.float32), np.zeros((230, 200), np.int32)
    draw_person(canvas, labels, body, sample_appearance(np.random.default_rng(seed)), ORIGIN, STATURE, 1)
    return canvas, labels


def keypoints_of(body: Body) -> np.ndarray:
    return ORIGIN + STATURE * body.keypoints[:, :2]


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.4), (0.5, 0.5)])
def test_a_filled_disc_is_centered_on_its_center(shift: tuple[float, float]) -> None:
    canvas = np.zeros((60, 60, 3), np.float32)
    center = np.array([30.0, 25.0]) + shift
    fill(canvas, center + 9 * circle(40), np.array([255.0, 255.0, 255.0]))
    ys, xs = np.mgrid[:60, :60]
    weight = canvas[..., 0]
    assert (xs * weight).sum() / weight.sum() == pytest.approx(center[0], abs=0.06)
    assert (ys * weight).sum() / weight.sum() == pytest.approx(center[1], abs=0.06)


def test_fill_clips_at_the_border_and_ignores_shapes_outside() -> None:
    canvas, labels = np.zeros((20, 30, 3), np.float32), np.zeros((20, 30), np.int32)
    fill(canvas, box(-10, -10, 5, 5), np.array([9.0, 9.0, 9.0]), labels=labels, label=7)
    fill(canvas, box(40, 40, 50, 50), np.array([9.0, 9.0, 9.0]), labels=labels, label=8)
    assert labels[:6, :6].min() == 7 and set(np.unique(labels)) == {0, 7}
    assert canvas[10:, 10:].max() == 0


def test_a_tile_is_drawn_through_its_matrix() -> None:
    canvas = np.zeros((40, 40, 3), np.float32)
    tile = np.zeros((8, 8, 3), np.float32)
    tile[:, 4:] = 200
    frame = np.array([[0.0, -2.5, 30.0], [2.5, 0.0, 10.0]])  # x of the tile is y of the image
    fill(canvas, box(10, 10, 30, 30), tile, frame)
    assert canvas[13:17, 15:25].max() == 0 and canvas[25:28, 15:25].min() == 200


def test_joints_are_on_the_center_line_of_their_limb() -> None:
    """The drawn forearm has the same width on both sides of the line from elbow to wrist."""
    angles = {"left_arm_abduction": 80.0, "left_elbow": 0.0}
    body = make_body(Build(), angles, np.eye(3))
    _, labels = draw_body(body)
    points = {name: ORIGIN + STATURE * body.points[name][:2] for name in ("left_elbow", "left_wrist")}
    forearm = labels == PERSON_STRIDE + figures.PART_NAMES.index("left_forearm") + 1
    middle = (points["left_elbow"] + points["left_wrist"]) / 2
    unit = (points["left_wrist"] - points["left_elbow"]) / np.linalg.norm(points["left_wrist"] - points["left_elbow"])
    ys, xs = np.nonzero(forearm)
    offsets = np.stack([xs, ys], axis=1) - middle
    near = np.abs(offsets @ unit) < 8
    across = offsets[near] @ np.array([-unit[1], unit[0]])
    assert across.mean() == pytest.approx(0.0, abs=0.25)


def test_all_keypoints_of_a_single_front_view_are_visible() -> None:
    body = make_body(Build(), {f"{side}_arm_abduction": 30.0 for side in ("left", "right")}, np.eye(3))
    for seed in range(8):
        _, labels = draw_body(body, seed)
        visible = dict(zip(COCO.names, visible_keypoints(labels, body, keypoints_of(body), 1), strict=True))
        assert all(visible.values()), visible


def test_in_a_back_view_the_face_is_hidden_and_the_limbs_are_visible() -> None:
    body = make_body(Build(), {f"{side}_arm_abduction": 30.0 for side in ("left", "right")}, rotation("y", 180.0))
    _, labels = draw_body(body)
    visible = dict(zip(COCO.names, visible_keypoints(labels, body, keypoints_of(body), 1), strict=True))
    assert not any(visible[name] for name in ("nose", "left_eye", "right_eye"))
    assert all(visible[f"{side}_{name}"] for side in ("left", "right") for name in ("wrist", "knee", "ankle"))


def test_a_person_in_front_occludes_keypoints() -> None:
    body = make_body(Build(), {}, np.eye(3))
    canvas, labels = draw_body(body)
    alone = visible_keypoints(labels, body, keypoints_of(body), 1)
    appearance = sample_appearance(np.random.default_rng(1))
    draw_person(canvas, labels, sample_body(np.random.default_rng(1)), appearance, ORIGIN, STATURE, 2)
    together = visible_keypoints(labels, body, keypoints_of(body), 1)
    assert together.sum() < alone.sum() and not (together & ~alone).any()


def test_the_head_differs_between_front_and_back_view() -> None:
    """Front and back must differ at the nose, else left and right cannot be distinguished."""
    differences = []
    for seed in range(10):
        front, back = make_body(Build(), {}, np.eye(3)), make_body(Build(), {}, rotation("y", 180.0))
        x, y = np.round(ORIGIN + STATURE * front.points["head"][:2]).astype(int)
        patch = (slice(y - 4, y + 5), slice(x - 4, x + 5))
        differences.append(np.abs(draw_body(front, seed)[0][patch] - draw_body(back, seed)[0][patch]).mean())
    assert np.median(differences) > 25


@pytest.mark.parametrize("pattern", figures.PATTERNS)
def test_tiles_are_darker_at_the_edges_of_a_limb(pattern: str) -> None:
    tile = make_tile(np.random.default_rng(0), np.array([100.0, 150.0, 200.0]), pattern)
    assert tile[[0, -1]].mean() < 0.8 * tile[10:14].mean()


def test_label_numbers_are_unique_for_every_part() -> None:
    assert len(figures.PART_NAMES) < PERSON_STRIDE


def test_a_scene_depends_only_on_its_generator() -> None:
    first, again, other = (draw_scene(np.random.default_rng(seed), (160, 120)) for seed in (1, 1, 2))
    assert (first.image == again.image).all()
    assert [p.keypoints_image.tolist() for p in first.people] == [p.keypoints_image.tolist() for p in again.people]
    assert (first.image != other.image).any()


def test_masks_of_a_scene_do_not_overlap() -> None:
    scene = draw_scene(np.random.default_rng((0, 0, 7)), (320, 240))
    assert sum(person.mask.astype(int) for person in scene.people).max() == 1


@pytest.mark.parametrize("image_wh", [(320, 240), (97, 200)])
def test_backgrounds_cover_the_image(image_wh: tuple[int, int]) -> None:
    for seed in range(6):
        background = draw_background(np.random.default_rng(seed), image_wh)
        assert background.shape == (image_wh[1], image_wh[0], 3) and np.isfinite(background).all()
        assert background.std() > 3


def test_eyes_are_drawn_exactly_at_their_keypoints() -> None:
    """The mean centroid of the pupils is at the annotated eyes; the test detects an offset of half a pixel."""
    patches = []
    for index in range(40):
        scene = draw_scene(np.random.default_rng((4, index)), (480, 360))
        gray = cv2.cvtColor(scene.image, cv2.COLOR_BGR2GRAY)
        for person in scene.people:
            if (person.visibility[:3] == 2).all():  # nose and both eyes are visible
                eyes = person.keypoints_image[1:3].astype(np.float32)
                patches += [cv2.getRectSubPix(gray, (7, 7), eye.tolist()).astype(float) for eye in eyes]
    assert len(patches) > 15
    mean = np.mean(patches, axis=0)
    dark = mean.max() - mean
    ys, xs = np.mgrid[-3:4, -3:4]
    assert (dark * xs).sum() / dark.sum() == pytest.approx(0.0, abs=0.12)
    assert (dark * ys).sum() / dark.sum() == pytest.approx(0.0, abs=0.12)
    assert mean[3, 3] < mean[0, 0] - 40


def test_a_face_turned_away_is_not_labeled_and_hidden_limbs_are() -> None:
    people = [p for index in range(40) for p in draw_scene(np.random.default_rng((5, index)), (160, 120)).people]
    visibility = np.array([person.visibility for person in people if person.visibility.any()])
    complete = visibility[(visibility[:, 5:] > 0).all(axis=1)]
    from_behind = (complete[:, :3] == 0).all(axis=1)
    assert 0.15 < from_behind.mean() < 0.6
    assert (complete[:, 5:] == 1).any()
