"""COCO result files: format, order independent of the input, atomic write."""

import json
from pathlib import Path

import numpy as np
import pytest

from pose.errors import DataError
from pose.evaluation.coco_results import Predictions, to_results, write_results
from pose.evaluation.oks import rescore
from pose.skeleton import COCO


def some_predictions(count: int = 30, seed: int = 0) -> Predictions:
    """Persons in five images, with duplicates and equal scores."""
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(0, 200, (count, 17, 2)).astype(np.float32)
    image_ids = np.arange(count) % 5 + 100
    keypoints[10:15] = keypoints[:5] + 0.5  # in the same image as the persons they duplicate
    box_scores = rng.uniform(0, 1, count).astype(np.float32)
    peaks = rng.uniform(0, 1, (count, 17)).astype(np.float32)
    box_scores[20:25], peaks[20:25] = box_scores[15:20], peaks[15:20]  # equal scores
    return Predictions(image_ids, keypoints, peaks, box_scores, rng.uniform(5_000, 9_000, count))


def take(predictions: Predictions, rows: np.ndarray) -> Predictions:
    return Predictions(**{name: column[rows] for name, column in vars(predictions).items()})


def test_results_have_coco_keys_and_plain_json_types():
    results = to_results(some_predictions(), COCO.sigmas, category_id=7)

    for row in results:
        assert list(row) == ["image_id", "category_id", "keypoints", "score"]
        assert type(row["image_id"]) is int
        assert row["category_id"] == 7
        assert len(row["keypoints"]) == 51
        assert {type(number) for number in [*row["keypoints"], row["score"]]} == {float}


def test_result_keypoints_are_x_y_score_triplets():
    predictions = some_predictions(1)

    numbers = np.array(to_results(predictions, COCO.sigmas)[0]["keypoints"])

    np.testing.assert_allclose(numbers[0::3], predictions.keypoints_image[0, :, 0], atol=1e-3)
    np.testing.assert_allclose(numbers[1::3], predictions.keypoints_image[0, :, 1], atol=1e-3)
    np.testing.assert_allclose(numbers[2::3], predictions.keypoint_scores[0], atol=1e-3)


def test_result_score_is_the_rescored_one():
    predictions = some_predictions(1)

    expected = rescore(predictions.box_scores, predictions.keypoint_scores, 0.4)[0]

    assert to_results(predictions, COCO.sigmas, keypoint_threshold=0.4)[0]["score"] == pytest.approx(expected, abs=1e-8)


def test_duplicates_are_suppressed_only_within_an_image():
    predictions = some_predictions()
    separate = Predictions(**{**vars(predictions), "image_ids": np.arange(30)})

    assert len(to_results(predictions, COCO.sigmas)) == 25
    assert len(to_results(separate, COCO.sigmas)) == 30
    assert len(to_results(predictions, COCO.sigmas, nms_threshold=1.0)) == 30


def test_results_are_sorted_by_image_then_by_descending_score():
    results = to_results(some_predictions(), COCO.sigmas)

    keys = [(row["image_id"], -row["score"]) for row in results]
    assert keys == sorted(keys)


@pytest.mark.parametrize("seed", range(5))
def test_results_do_not_depend_on_the_order_of_the_persons(seed):
    predictions = some_predictions()
    shuffled = take(predictions, np.random.default_rng(seed).permutation(30))

    assert to_results(shuffled, COCO.sigmas) == to_results(predictions, COCO.sigmas)


def test_no_persons_give_no_results():
    assert to_results(take(some_predictions(), np.zeros(0, dtype=int)), COCO.sigmas) == []


@pytest.mark.parametrize("column", ["keypoints_image", "keypoint_scores", "box_scores"])
def test_non_finite_predictions_are_an_error_that_names_the_image(column):
    predictions = some_predictions()
    getattr(predictions, column)[3] = np.nan

    with pytest.raises(DataError, match=r"1 of 30 persons.*image 103"):
        to_results(predictions, COCO.sigmas)


def test_written_results_are_the_json_of_the_list(tmp_path: Path):
    results = to_results(some_predictions(), COCO.sigmas)
    path = tmp_path / "new folder" / "results.json"

    write_results(results, path)

    assert json.loads(path.read_text()) == results
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "results.json"
    write_results([], path)

    with pytest.raises(DataError, match="a number in it is infinite"):
        write_results([{"score": float("nan")}], path)

    assert path.read_text() == "[]"
