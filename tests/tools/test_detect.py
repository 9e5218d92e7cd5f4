"""tools/detect.py writes box files that the other tools read."""

import json

import cv2
import numpy as np
import pytest

from pose.datasets.coco import detected_persons
from pose.errors import DataError
from pose.skeleton import COCO
from pose.tools.detect import main


def detect(*args: object) -> None:
    main([str(arg) for arg in args])


def test_annotations_give_the_image_ids_and_the_boxes_can_be_read_back(tmp_path, tiny_coco):
    output = tmp_path / "new/boxes.json"
    detect(
        "--detector", "none", "--images", tiny_coco.images, "--annotations", tiny_coco.annotations, "--output", output
    )  # fmt: skip
    persons = detected_persons(output, tiny_coco.annotations, tiny_coco.images, COCO)
    assert persons.image_ids.tolist() == [1, 2, 3]
    assert persons.bboxes_xywh.tolist() == [[0, 0, 160, 120], [0, 0, 100, 140], [0, 0, 120, 120]]
    assert persons.scores.tolist() == [1, 1, 1]


def test_image_ids_of_a_folder_are_numbers_in_names_or_indices(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in ("000000000139.png", "a.png"):
        cv2.imwrite(str(images / name), np.zeros((8, 10, 3), np.uint8))
    detect("--detector", "none", "--images", images, "--output", tmp_path / "boxes.json")
    rows = json.loads((tmp_path / "boxes.json").read_text())
    assert rows == [
        {"image_id": image_id, "category_id": 1, "bbox": [0, 0, 10, 8], "score": 1} for image_id in (139, 1)
    ]


def test_a_missing_image_is_named_and_nothing_is_written(tmp_path, tiny_coco):
    (tiny_coco.images / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png"):
        detect(
            "--detector", "none", "--images", tiny_coco.images, "--annotations", tiny_coco.annotations,
            "--output", tmp_path / "out.json",
        )  # fmt: skip
    assert not (tmp_path / "out.json").exists()


def test_yolox_returns_the_reference_boxes_of_an_image(tmp_path, shared):
    people = shared / "data/coco_person_small"
    reference = json.loads((people / "annotations/person_detections_yolox_nano_val.json").read_text())
    detect(
        "--detector", shared / "data/detector/yolox_nano.onnx", "--images", people / "val/000000000139.jpg",
        "--output", tmp_path / "out.json",
    )  # fmt: skip
    rows = json.loads((tmp_path / "out.json").read_text())
    expected = [row for row in reference if row["image_id"] == 139]
    assert len(rows) == len(expected)
    np.testing.assert_allclose([row["score"] for row in rows], [row["score"] for row in expected], atol=2e-3)
    np.testing.assert_allclose([row["bbox"] for row in rows], [row["bbox"] for row in expected], atol=0.5)
