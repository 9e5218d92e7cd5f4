"""An AP of 0 or -1 is explained by its cause."""

from dataclasses import replace

import numpy as np
import pytest

from pose.engine.evaluate import load_test_set, make_results, score_results
from pose.engine.explain_ap import explain_ap
from pose.engine.truth import find_closest, load_truth
from pose.evaluation.coco_results import Predictions


@pytest.fixture
def config(tiny_config):
    return tiny_config()


@pytest.fixture
def explain(config):
    """Return a function that explains the AP of annotated keypoints, changed before they are evaluated."""

    def call(
        shift=0.0, score=0.9, edit_truth=lambda truth: truth, edit_set=lambda test_set: test_set, rows=None, ap=None
    ):
        test_set, truth = edit_set(load_test_set(config, ground_truth=True)), edit_truth(load_truth(config))
        persons = test_set.persons
        count = len(persons) if rows is None else rows
        predictions = Predictions(
            persons.image_ids[:count],
            persons.keypoints_image[:count] + shift,
            np.full((count, 17), score),
            np.ones(count),
            np.ones(count),
        )
        metrics = score_results(make_results(predictions, test_set, config), test_set, config)
        metrics = metrics if ap is None else replace(metrics, AP=ap)
        closest = find_closest(predictions, truth, config.keypoints.sigmas)
        return explain_ap(metrics, predictions, closest, test_set, truth, config)

    return call


def test_a_positive_ap_needs_no_explanation(explain):
    assert explain() is None


def test_no_boxes(explain):
    assert "AP 0: there are no ground-truth boxes" in explain(rows=0)


def test_image_ids_that_do_not_match(explain):
    def other_ids(truth):
        return replace(truth, persons=replace(truth.persons, image_ids=truth.persons.image_ids + 5000))

    assert "its image ids are not those of" in explain(edit_truth=other_ids, ap=0.0)


def test_boxes_that_miss_the_persons(explain):
    def moved(test_set):
        return replace(test_set, persons=replace(test_set.persons, bboxes_xywh=test_set.persons.bboxes_xywh + 5000))

    assert "do not lie on the annotated persons" in explain(edit_set=moved, ap=0.0)


def test_areas_that_are_no_areas(explain):
    assert "annotated areas are" in explain(edit_truth=lambda truth: replace(truth, areas=truth.areas / 1e4), ap=0.0)


def test_flat_heatmaps(explain):
    reason = explain(shift=300, score=0.01)
    assert "no keypoint score is above test.keypoint_threshold 0.2 (highest 0.01)" in reason
    assert reason.endswith("train longer")  # the loss is cross_entropy already


def test_keypoints_that_are_too_far(explain):
    assert "the best OKS is 0.00 (median 0.00)" in explain(shift=300)


def test_no_person_counts(explain):
    assert "AP -1: no annotated person counts in" in explain(ap=-1.0)
