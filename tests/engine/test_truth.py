"""Closest predictions of annotated persons: OKS against a direct computation of COCO's formula."""

import json

import numpy as np
import pytest

from pose.config.data import DataConfig
from pose.datasets.coco import annotated_persons
from pose.engine.truth import Truth, find_closest, load_truth
from pose.evaluation.coco_results import Predictions
from pose.skeleton import COCO


@pytest.fixture
def truth(tiny_coco):
    persons = annotated_persons(tiny_coco.annotations, tiny_coco.images, COCO)
    return Truth(persons, np.full(len(persons), 1000.0))


def predictions(keypoints, image_ids):
    count = len(keypoints)
    return Predictions(
        np.array(image_ids), np.array(keypoints), np.full((count, 17), 0.8), np.ones(count), np.ones(count)
    )


def test_the_truth_has_the_annotated_areas(tiny_coco, tiny_config):
    data = DataConfig(root=tiny_coco.images.parent, val_annotations="persons.json", val_images="images")
    loaded = load_truth(tiny_config().model_copy(update={"data": data}))

    area_of = {row["id"]: row["area"] for row in json.loads(tiny_coco.annotations.read_text())["annotations"]}
    assert loaded.areas.tolist() == [area_of[i] for i in loaded.persons.ids]


def test_the_best_prediction_of_the_same_image_is_found_with_cocos_oks(truth):
    persons = truth.persons
    rng = np.random.default_rng(1)
    shifted = persons.keypoints_image + rng.normal(0, 4, persons.keypoints_image.shape)
    far = persons.keypoints_image + 60
    found = find_closest(
        predictions([*far, *shifted[::-1]], [*persons.image_ids, *persons.image_ids[::-1]]), truth, COCO.sigmas
    )

    n = len(persons)
    assert found.rows.tolist() == [2 * n - 1 - row for row in range(n)]
    for row in range(n):
        labeled = persons.visibility[row] > 0
        squared = ((shifted[row] - persons.keypoints_image[row])[labeled] ** 2).sum(axis=1)
        expected = np.exp(-squared / (2 * 1000 * (2 * np.array(COCO.sigmas)[labeled]) ** 2)).mean()
        assert found.oks[row] == pytest.approx(expected, rel=1e-6)


def test_persons_on_images_without_predictions_have_none(truth):
    persons = truth.persons
    found = find_closest(predictions(persons.keypoints_image[:1], persons.image_ids[:1]), truth, COCO.sigmas)

    other = persons.image_ids != persons.image_ids[0]
    assert (found.rows[other] == -1).all()
    assert (found.oks[other] == 0).all()
    assert (found.rows[~other] == 0).all()
    assert found.oks[0] == pytest.approx(1)
