"""tools/label.py writes annotations that training reads, with the keypoints that its teacher predicts."""

import json

import numpy as np
import pytest

from pose.datasets.coco import annotated_persons
from pose.errors import ConfigError, MediaError
from pose.images import read_image
from pose.inference.poses import Poses
from pose.inference.pytorch import PyTorchPredictor
from pose.skeleton import COCO
from pose.tools.label import annotation_rows, main


def label(*args: object) -> None:
    main([str(arg) for arg in args])


def test_labels_are_the_predictions_of_the_packaged_model_and_training_reads_them(tmp_path, tiny_coco):
    output, folder = tmp_path / "people.json", tiny_coco.images
    label(
        "--images", folder, "--detector", "none", "--teacher", "default", "--output", output,
        "--keypoint-score", 0.01, "--min-keypoints", 1,
    )  # fmt: skip

    persons = annotated_persons(output, folder, COCO)
    predictor = PyTorchPredictor()

    assert len(persons) == 2  # images in subfolders are not labeled
    for row in range(2):
        record = persons.record(row)
        image = read_image(record.image_path)
        poses = predictor(image, [[0, 0, image.shape[1], image.shape[0]]])
        labeled = poses.scores[0] >= 0.01
        np.testing.assert_array_equal(record.visibility > 0, labeled)
        np.testing.assert_allclose(record.keypoints_image[labeled], poses.keypoints[0, labeled], atol=0.06)


def test_keypoints_below_the_threshold_have_no_label_but_keep_their_score():
    poses = Poses(
        np.array([[[1.25, 2], [3, 4], [5, 6]]], np.float32),
        np.array([[0.9, 0.2, 0.5]], np.float32),
        np.array([[1, 2, 30, 40]], np.float32),
    )
    (row,) = annotation_rows(poses, 7, 0.5)

    assert row == {
        "image_id": 7, "category_id": 1, "iscrowd": 0, "bbox": [1, 2, 30, 40], "area": 1200.0, "num_keypoints": 2,
        "keypoints": [1.2, 2.0, 2, 0, 0, 0, 5.0, 6.0, 2], "keypoint_scores": [0.9, 0.2, 0.5],
    }  # fmt: skip


def test_persons_with_too_few_confident_keypoints_are_left_out_and_the_user_is_told(tmp_path, tiny_coco, capsys):
    output = tmp_path / "people.json"
    label("--images", tiny_coco.images, "--detector", "none", "--output", output, "--keypoint-score", 2)

    content = json.loads(output.read_text())

    assert len(content["images"]) == 2
    assert content["annotations"] == []
    assert "nobody was labeled" in capsys.readouterr().out


def test_teacher_file_that_does_not_exist_is_one_line_and_nothing_is_written(tmp_path, tiny_coco):
    with pytest.raises(ConfigError, match=r"missing\.onnx: no such"):
        label(
            "--images", tiny_coco.images, "--detector", "none", "--teacher", tmp_path / "missing.onnx",
            "--output", tmp_path / "people.json",
        )  # fmt: skip
    assert not (tmp_path / "people.json").exists()


def test_folder_without_images_is_rejected(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="empty"):
        label("--images", tmp_path / "empty", "--detector", "none", "--output", tmp_path / "people.json")
