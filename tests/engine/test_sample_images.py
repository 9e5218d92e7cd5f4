"""Images of a run: the chosen persons, the targets that are drawn, and the size of the sheets."""

import cv2
import numpy as np
import pytest

from pose.engine.pose_task import training_samples
from pose.engine.sample_images import (
    CELL_HEIGHT,
    TYPICAL,
    WORST,
    choose_persons,
    draw_sample,
    train_batch_sheet,
    validation_sheet,
)
from pose.engine.truth import find_closest, load_truth
from pose.evaluation.coco_results import Predictions


@pytest.fixture
def config(tiny_config):
    return tiny_config("augment.flip_probability=0.5")


@pytest.fixture
def truth(config):
    return load_truth(config)


def perfect(truth):
    persons = truth.persons
    count = len(persons)
    scores = np.full((count, 17), 0.9)
    return Predictions(persons.image_ids, persons.keypoints_image, scores, np.ones(count), np.ones(count))


def test_worst_are_the_lowest_and_typical_next_to_the_median_one_per_image(truth):
    count = len(truth.persons)
    oks = np.random.default_rng(0).permutation(np.linspace(0, 1, count))
    worst, typical = choose_persons(oks, truth)

    assert oks[worst[0]] == min(oks[(truth.persons.visibility > 0).sum(axis=1) >= 3])
    assert (np.diff(oks[worst]) >= -0.01).all()
    assert not set(worst) & set(typical)
    for rows, limit in ((worst, WORST), (typical, TYPICAL)):
        images = truth.persons.image_ids[rows]
        assert len(rows) <= limit
        assert len(set(images.tolist())) == len(images)
    assert abs(oks[typical[0]] - np.median(oks)) <= abs(oks[typical[-1]] - np.median(oks))


def test_equally_wrong_persons_are_shown_large_first(truth):
    worst, _ = choose_persons(np.zeros(len(truth.persons)), truth)

    assert (np.diff(truth.areas[worst]) <= 0).all()


def test_the_target_of_each_keypoint_is_drawn_where_it_lies_on_the_crop(config):
    dataset = training_samples(config)
    sample = dataset[0, 0]
    plain = cv2.resize(sample.image.numpy()[..., ::-1], (CELL_HEIGHT, CELL_HEIGHT), interpolation=cv2.INTER_LINEAR)
    drawn = draw_sample(sample, config.keypoints)

    changed = np.abs(drawn.astype(int) - plain).max(axis=2) > 20
    scale = CELL_HEIGHT / sample.heatmaps.shape[-1]
    for heatmap, weight in zip(sample.heatmaps.numpy(), sample.weights.numpy(), strict=True):
        if weight:
            y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
            assert changed[
                round(y * scale) - 4 : round(y * scale) + 5, round(x * scale) - 4 : round(x * scale) + 5
            ].any()


def test_a_sheet_of_a_batch_has_one_cell_per_sample(config):
    sheet = train_batch_sheet(training_samples(config), [(0, 0), (0, 1), (0, 2)])

    assert sheet.shape == (CELL_HEIGHT + 12, 3 * (CELL_HEIGHT + 6) + 6, 3)
    assert sheet.dtype == np.uint8


def test_a_validation_sheet_shows_the_same_pose_twice_for_perfect_predictions(config, truth):
    closest = find_closest(perfect(truth), truth, config.keypoints.sigmas)
    assert closest.oks.tolist() == pytest.approx([1] * len(truth.persons))
    sheet = validation_sheet(perfect(truth), closest, truth, config.keypoints, config.input)

    annotated, predicted = (
        sheet[6 : CELL_HEIGHT - 20, 6 : 6 + CELL_HEIGHT],
        sheet[6 : CELL_HEIGHT - 20, 6 + CELL_HEIGHT :],
    )
    np.testing.assert_array_equal(annotated, predicted[:, :CELL_HEIGHT])


def test_a_person_without_a_prediction_is_drawn_too(config, truth):
    none = Predictions(np.zeros(0, int), np.zeros((0, 17, 2)), np.zeros((0, 17)), np.zeros(0), np.zeros(0))
    sheet = validation_sheet(
        none, find_closest(none, truth, config.keypoints.sigmas), truth, config.keypoints, config.input
    )
    assert sheet.any()
