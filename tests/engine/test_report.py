"""Report of an evaluation: protocol line and image of predictions."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pose.engine.evaluate import load_test_set
from pose.engine.report import draw_predictions, protocol_line


def test_protocol_line_states_boxes_input_flip_scoring_and_weights(tiny_config):
    config = tiny_config("input.size_hw=[96,64]", "test.nms_threshold=0.8", "test.keypoint_threshold=0.3")
    test_set = load_test_set(config, ground_truth=True)

    line = protocol_line(config, test_set, Path("runs/x/best.pt"))

    assert line == (
        f"quickstart: {len(test_set.persons)} ground-truth boxes; input 96x64 (h x w), flip average on, shift 1, "
        "quarter-offset decoding, score box x mean of keypoints > 0.3, OKS-NMS 0.8; weights runs/x/best.pt"
    )


def test_protocol_line_states_detector_boxes_and_a_disabled_flip_average(tiny_config):
    config = tiny_config("test.flip=false")

    line = protocol_line(config, load_test_set(config, ground_truth=False), Path("best.pt"))

    assert "detector boxes of person_detections_val.json" in line
    assert "flip average off," in line


def test_protocol_line_states_dark_decoding_and_its_blur(tiny_config):
    config = tiny_config("test.decode=dark", "input.sigma=1.5")

    assert ", DARK (blur sigma 1.5) decoding, " in protocol_line(config, load_test_set(config, True), Path("best.pt"))


@pytest.fixture
def ground_truth_results(tiny_config):
    """Config, test set, and the annotations as results."""
    config = tiny_config()
    test_set = load_test_set(config, ground_truth=True)
    persons = test_set.persons
    results = [
        {
            "image_id": int(persons.image_ids[row]),
            "category_id": 1,
            "keypoints": np.column_stack([persons.keypoints_image[row], persons.visibility[row] > 0]).ravel().tolist(),
            "score": 0.9,
        }
        for row in range(len(persons))
    ]
    return config, test_set, results


def test_draw_predictions_draws_only_persons_above_the_minimum_score(ground_truth_results, tmp_path):
    config, test_set, results = ground_truth_results
    low_scored = [{**result, "score": 0.01} for result in results]

    draw_predictions(results, test_set, config, tmp_path / "new/high.png")
    draw_predictions(low_scored, test_set, config, tmp_path / "low.png")

    with_poses, without = cv2.imread(str(tmp_path / "new/high.png")), cv2.imread(str(tmp_path / "low.png"))
    assert with_poses.shape == without.shape
    assert (with_poses != without).any(axis=2).mean() > 0.005


def test_draw_predictions_draws_the_given_number_of_images(ground_truth_results, tmp_path):
    config, test_set, results = ground_truth_results

    draw_predictions(results, test_set, config, tmp_path / "one.png", count=1)
    draw_predictions(results, test_set, config, tmp_path / "all.png")

    one, several = (cv2.imread(str(tmp_path / name)) for name in ("one.png", "all.png"))
    assert one.size < several.size
