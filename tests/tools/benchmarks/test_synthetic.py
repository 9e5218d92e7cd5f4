"""Synthetic people: counts as in COCO, reproducible, with duplicates."""

import json

import numpy as np
import pytest

from pose.datasets.validation.checks import check_annotations
from pose.evaluation.coco_results import to_results
from pose.skeleton import COCO
from pose.tools.benchmarks._synthetic import synthetic_people


@pytest.fixture(scope="module")
def synthetic():
    return synthetic_people(500, np.random.default_rng(0))


def test_counts_are_proportional_to_val2017(synthetic):
    content, predictions = synthetic

    assert len(content["images"]) == 500
    assert len(content["annotations"]) == 1_100
    assert len(predictions) == 10_412  # 104,125 of 5,000
    assert len({person["image_id"] for person in content["annotations"]}) < 270
    assert 0.5 < np.mean([person["num_keypoints"] > 0 for person in content["annotations"]]) < 0.65
    assert sum(person["iscrowd"] for person in content["annotations"]) == 22


def test_the_annotations_pass_validation(synthetic, tmp_path):
    path = tmp_path / "people.json"
    path.write_text(json.dumps(synthetic[0]))

    assert [issue for issue in check_annotations(path) if issue.severity == "error"] == []


def test_some_predictions_are_duplicates(synthetic):
    _, predictions = synthetic

    assert 0.8 * len(predictions) < len(to_results(predictions, COCO.sigmas)) < 0.98 * len(predictions)


def test_the_same_generator_gives_the_same_people():
    (first, people), (second, again) = (synthetic_people(3, np.random.default_rng(7)) for _ in range(2))

    assert first == second
    np.testing.assert_array_equal(people.keypoints_image, again.keypoints_image)
