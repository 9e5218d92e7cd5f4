"""Images without boxes: everybody that a detector finds, or one person without a detector."""

import json
from collections import Counter

import numpy as np
import pytest

from pose import PosePredictor
from pose.errors import MediaError
from pose.inference.detectors import Detections

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


class FixedDetector:
    """Returns the same boxes for every image."""

    def __init__(self, *bboxes_xywh):
        self.bboxes_xywh = np.array(bboxes_xywh, dtype=float).reshape(-1, 4)

    def __call__(self, images):
        return [Detections(self.bboxes_xywh, np.linspace(0.9, 0.5, len(self.bboxes_xywh))) for _ in images]


def predictor(detector) -> PosePredictor:
    return PosePredictor(device="cpu", flip=False, detector=detector)


def test_the_keypoints_are_those_of_the_detected_boxes():
    boxes = [[5, 5, 40, 80], [70, 10, 45, 70]]
    everybody = predictor(FixedDetector(*boxes))
    found, expected = everybody(IMAGE), everybody(IMAGE, boxes)
    np.testing.assert_array_equal(found.keypoints, expected.keypoints)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.bboxes_xywh.tolist() == boxes


def test_a_person_that_is_detected_twice_is_returned_once():
    boxes = [[5, 5, 40, 80], [5, 5, 40, 80], [70, 10, 45, 70]]
    everybody = predictor(FixedDetector(*boxes))
    assert everybody(IMAGE).bboxes_xywh.tolist() == [boxes[0], boxes[2]]
    assert len(everybody(IMAGE, boxes)) == 3  # boxes that the user gives are all kept


def test_nobody_detected_gives_empty_poses():
    found = predictor(FixedDetector())(IMAGE)
    assert found.keypoints.shape == (0, 17, 2)
    assert found.bboxes_xywh.shape == (0, 4)


def test_auto_takes_the_users_detector(monkeypatch):
    monkeypatch.setenv("DYCONV_POSE_DETECTOR", "none")
    assert predictor("auto")(IMAGE).bboxes_xywh.tolist() == [[0, 0, 120, 90]]


def test_auto_is_the_default_and_needs_no_detector_while_boxes_are_given(monkeypatch):
    monkeypatch.setenv("DYCONV_POSE_DETECTOR", "no.onnx")
    default = PosePredictor(device="cpu", flip=False)

    assert len(default(IMAGE, [[10, 10, 50, 60]])) == 1
    assert default(IMAGE, "image").bboxes_xywh.tolist() == [[0, 0, 120, 90]]
    with pytest.raises(MediaError, match=r"no\.onnx.*DYCONV_POSE_DETECTOR"):
        default(IMAGE)


def test_a_detector_that_cannot_be_loaded_is_an_error_at_once():
    with pytest.raises(MediaError, match="no such detector file"):
        predictor("no.onnx")


def test_without_a_detector_nobody_is_found_in_noise():
    assert len(predictor("pose")(IMAGE)) == 0


def test_without_a_detector_the_most_visible_person_is_found(shared):
    people = shared / "data/coco_person_small"
    content = json.loads((people / "annotations/person_keypoints_val.json").read_text())
    persons = content["annotations"]
    alone = [row for row in persons if sum(row["image_id"] == other["image_id"] for other in persons) == 1]
    person = next(row for row in alone if row["num_keypoints"] >= 15 and row["area"] > 150**2)
    image = next(row for row in content["images"] if row["id"] == person["image_id"])
    found = predictor("pose")(people / "val" / image["file_name"])
    assert len(found) == 1
    assert found.bboxes_xywh[0, 2:].prod() < 0.9 * image["width"] * image["height"]
    truth = np.array(person["keypoints"]).reshape(-1, 3)
    visible = truth[:, 2] > 0
    distances = np.linalg.norm(found.keypoints[0] - truth[:, :2], axis=1)[visible]
    assert np.median(distances) < 0.1 * np.sqrt(person["area"])


@pytest.mark.parametrize("file", ["detector/rtmdet_nano_person.onnx", "detector/picodet_s_person_416_fp16w.onnx"])
def test_a_group_is_found_with_a_real_detector(shared, file):
    """The image with the most large persons."""
    pytest.importorskip("onnxruntime")
    people = shared / "data/coco_person_small"
    content = json.loads((people / "annotations/person_keypoints_val.json").read_text())
    counts = Counter(row["image_id"] for row in content["annotations"] if row["area"] > 96**2 and not row["iscrowd"])
    image_id, count = counts.most_common(1)[0]
    name = next(row["file_name"] for row in content["images"] if row["id"] == image_id)
    assert count >= 4
    assert len(predictor(str(shared / file))(people / "val" / name)) >= 0.7 * count
