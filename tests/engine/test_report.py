"""What a test says in words, and the image it leaves."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pose.engine.evaluate import load_test_set
from pose.engine.report import draw_predictions, protocol_line


def test_the_protocol_says_in_words_how_a_figure_came_about(tiny_config):
    config = tiny_config("input.size_hw=[96,64]", "test.nms_threshold=0.8", "test.keypoint_threshold=0.3")
    test_set = load_test_set(config, ground_truth=True)

    line = protocol_line(config, test_set, Path("runs/x/best.pt"))

    assert line == (
        f"quickstart: {len(test_set.persons)} ground-truth boxes; input 96x64 (h x w), flip average on, shift 1, "
        "quarter-offset decoding, score box x mean of keypoints > 0.3, OKS-NMS 0.8; weights runs/x/best.pt"
    )


def test_a_detectors_boxes_and_a_missing_flip_are_said(tiny_config):
    config = tiny_config("test.flip=false")

    line = protocol_line(config, load_test_set(config, ground_truth=False), Path("best.pt"))

    assert "detector boxes of person_detections_val.json" in line
    assert "flip average off," in line


@pytest.fixture
def perfect(tiny_config):
    """A test set, and its annotations as results."""
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


def test_predictions_are_drawn_into_one_image(perfect, tmp_path):
    config, test_set, results = perfect
    weak = [{**result, "score": 0.01} for result in results]

    draw_predictions(results, test_set, config, tmp_path / "new/shown.png")
    draw_predictions(weak, test_set, config, tmp_path / "weak.png")

    shown, without = cv2.imread(str(tmp_path / "new/shown.png")), cv2.imread(str(tmp_path / "weak.png"))
    assert shown.shape == without.shape
    assert (shown != without).any(axis=2).mean() > 0.005


def test_as_many_images_as_wanted_are_drawn(perfect, tmp_path):
    config, test_set, results = perfect

    draw_predictions(results, test_set, config, tmp_path / "one.png", count=1)
    draw_predictions(results, test_set, config, tmp_path / "all.png")

    one, whole = (cv2.imread(str(tmp_path / name)) for name in ("one.png", "all.png"))
    assert one.size < whole.size
