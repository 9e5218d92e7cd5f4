"""Drawn butterflies: a data set of five keypoints whose annotations fit the images."""

import json

import numpy as np
import pytest

from pose.datasets.synthetic.butterflies import CATEGORY, draw_butterflies
from pose.datasets.synthetic.dataset import write_dataset
from pose.datasets.validation.checks import check_annotations
from pose.skeleton import make_skeleton

SCENES = [draw_butterflies(np.random.default_rng(seed), (160, 120)) for seed in range(30)]


def test_visible_keypoints_lie_on_their_butterfly():
    on = [
        person.mask[tuple(person.keypoints_image[k].round().astype(int)[::-1])]
        for scene in SCENES
        for person in scene.people
        for k in np.flatnonzero(person.visibility == 2)
    ]
    assert np.mean(on) > 0.9  # the pixel of a wing tip may show the background


def test_the_left_wing_is_on_the_left_of_the_body_that_points_to_the_head():
    left, right = (CATEGORY["keypoints"].index(name) for name in ("wing_l", "wing_r"))
    for scene in SCENES:
        for person in scene.people:
            if person.visibility.all():
                head, body = person.keypoints_image[:2]
                ahead = head - body
                sides = [ahead[0] * y - ahead[1] * x for x, y in person.keypoints_image[[left, right]] - body]
                assert sides[0] < 0 < sides[1]


def test_keypoints_outside_the_image_are_not_labeled():
    for scene in SCENES:
        for person in scene.people:
            assert ((person.visibility > 0) == person.keypoints_image.any(axis=1)).all()
            assert (person.keypoints_image >= 0).all()
            assert (person.keypoints_image <= (159, 119)).all()


def test_the_data_set_passes_its_check(tmp_path):
    write_dataset(tmp_path / "set", train_images=8, val_images=2, image_wh=(160, 120), seed=0, subject="butterflies")

    annotations = tmp_path / "set/annotations/person_keypoints_train.json"
    (category,) = json.loads(annotations.read_text())["categories"]
    issues = check_annotations(annotations, tmp_path / "set/train", skeleton=make_skeleton(category["keypoints"]))
    assert [issue for issue in issues if issue.severity != "info"] == []
    assert make_skeleton(category["keypoints"]).paired_names == "wing_l<->wing_r"


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_draws_the_same_image(seed):
    assert (draw_butterflies(np.random.default_rng(seed), (160, 120)).image == SCENES[seed].image).all()
