"""Person detectors: boxes against a reference, letterbox and decoding against hand calculation, error messages."""

import builtins
import json
from pathlib import Path

import numpy as np
import pytest

from pose.errors import MediaError
from pose.images import read_image
from pose.inference import detectors
from pose.inference.detectors import (
    Detections,
    TorchvisionDetector,
    YoloxDetector,
    decode_yolox,
    letterbox,
    load_detector,
)

YOLOX = "data/detector/yolox_nano.onnx"
PEOPLE = "data/coco_person_small"


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU (N, M) of xywh boxes."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    overlap = np.prod(np.clip(high - low, 0, None), axis=-1)
    return overlap / (np.prod(a[:, None, 2:], axis=-1) + np.prod(b[None, :, 2:], axis=-1) - overlap)


def reference_images(people: Path, count: int) -> list[tuple[Path, np.ndarray, np.ndarray]]:
    """Images with the boxes and scores of the same model in a reference implementation."""
    rows = json.loads((people / "annotations/person_detections_yolox_nano_val.json").read_text())
    images = json.loads((people / "annotations/person_keypoints_val.json").read_text())["images"][:count]
    result = []
    for image in images:
        detected = [row for row in rows if row["image_id"] == image["id"]]
        boxes = np.array([row["bbox"] for row in detected]).reshape(-1, 4)
        result.append((people / "val" / image["file_name"], boxes, np.array([row["score"] for row in detected])))
    return result


def without_onnxruntime(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize("runtime", ["onnxruntime", "opencv"])
def test_yolox_returns_the_reference_boxes(shared, monkeypatch, runtime):
    if runtime == "opencv":
        without_onnxruntime(monkeypatch)
    else:
        pytest.importorskip("onnxruntime")
    detector = load_detector(shared / YOLOX, score_threshold=0.01)
    for path, boxes, scores in reference_images(shared / PEOPLE, 12):
        (detections,) = detector([read_image(path)])
        assert len(detections.scores) == len(scores)
        ious = iou(boxes, detections.bboxes_xywh)
        confident = np.flatnonzero(scores > 0.1)
        assert (ious[confident].max(axis=1) > 0.98).all()
        np.testing.assert_allclose(detections.scores[ious[confident].argmax(axis=1)], scores[confident], atol=2e-3)
        assert (np.diff(detections.scores) <= 0).all()


def test_persons_below_the_score_threshold_are_dropped(shared):
    path, _, scores = reference_images(shared / PEOPLE, 1)[0]
    (detections,) = load_detector(shared / YOLOX, score_threshold=0.5)([read_image(path)])
    assert len(detections.scores) == (scores > 0.5).sum()


def test_letterbox_fits_the_image_into_the_top_left_corner():
    image = np.full((50, 100, 3), (1, 2, 3), np.uint8)
    blob, ratio = letterbox(image, (416, 320))
    assert blob.shape == (1, 3, 320, 416)
    assert ratio == 4.16
    assert (blob[0, :, :208] == np.array([1, 2, 3])[:, None, None]).all()
    assert (blob[0, :, 208:] == 114).all()


def rows_for(bbox_xywh: tuple[float, ...], score: float, input_wh=(64, 32), row: int = 3) -> np.ndarray:
    """Raw output with one person, in cell (3, 0) of the stride-8 grid."""
    x, y, w, h = bbox_xywh
    rows = np.zeros((1, (8 * 4) + (4 * 2) + (2 * 1), 85), np.float32)
    rows[0, row] = 0
    rows[0, row, :6] = ((x + w / 2) / 8 - 3, (y + h / 2) / 8, np.log(w / 8), np.log(h / 8), score, 1)
    return rows


def test_decode_yolox_inverts_the_encoding_of_a_cell():
    boxes, scores = decode_yolox(rows_for((20, 1, 15, 9), 0.7), (64, 32))
    np.testing.assert_allclose(boxes[3], (20, 1, 15, 9), atol=1e-4)
    assert scores[3] == pytest.approx(0.7)
    assert np.delete(scores, 3).max() == 0


@pytest.mark.parametrize(("row", "center"), [(0, (0, 0)), (9, (8, 8)), (32 + 5, (16, 16)), (40 + 1, (32, 0))])
def test_decode_yolox_uses_the_cell_and_stride_of_each_grid(row, center):
    rows = np.zeros((1, 42, 85), np.float32)
    boxes, _ = decode_yolox(rows, (64, 32))
    np.testing.assert_allclose(boxes[row, :2] + boxes[row, 2:] / 2, center)


def test_boxes_are_in_image_pixels_and_clipped_to_the_image():
    image = np.zeros((64, 128, 3), np.uint8)  # twice the input
    detector = YoloxDetector(lambda blob: rows_for((-5, -2, 30, 60), 0.7), (64, 32), 0.3, 0.65)
    (detections,) = detector([image])
    np.testing.assert_allclose(detections.bboxes_xywh, [[0, 0, 50, 64]], atol=1e-3)


def test_nms_keeps_the_best_of_overlapping_boxes():
    boxes = Detections(np.array([[0, 0, 10, 10], [1, 0, 10, 10], [30, 0, 5, 5.0]]), np.array([0.5, 0.9, 0.4]))
    kept = detectors._nms(boxes, 0.65)
    assert kept.scores.tolist() == [0.9, 0.4]


def test_an_image_without_persons_gives_empty_arrays():
    (detections,) = YoloxDetector(lambda blob: np.zeros((1, 42, 85), np.float32), (64, 32), 0.3, 0.65)(
        [np.zeros((9, 9, 3), np.uint8)]
    )
    assert detections.bboxes_xywh.shape == (0, 4)
    assert detections.scores.shape == (0,)


def test_output_of_another_shape_is_refused():
    with pytest.raises(MediaError, match=r"raw output \(1, 42, 5 \+ classes\).*got \(1, 41, 85\)"):
        decode_yolox(np.zeros((1, 41, 85), np.float32), (64, 32))


@pytest.mark.parametrize("runtime", ["onnxruntime", "opencv"])
def test_a_file_that_is_not_a_model_is_refused_with_one_line(tmp_path, monkeypatch, runtime):
    if runtime == "opencv":
        without_onnxruntime(monkeypatch)
    (tmp_path / "bad.onnx").write_bytes(b"not a model" * 9)
    with pytest.raises(MediaError, match=r"bad\.onnx: not an ONNX model") as caught:
        load_detector(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("available", [["CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]])
def test_an_onnx_detector_prefers_cuda_where_onnxruntime_has_it(shared, monkeypatch, available):
    onnxruntime = pytest.importorskip("onnxruntime")
    opened, original = [], onnxruntime.InferenceSession

    def open_on_cpu(path, options, providers):
        opened.append(providers)
        return original(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", *available])
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_on_cpu)
    load_detector(shared / YOLOX)
    assert opened == [available]


def test_a_missing_file_and_an_unknown_name_are_refused(tmp_path):
    with pytest.raises(MediaError, match="no such detector file"):
        load_detector(tmp_path / "no.onnx")
    with pytest.raises(MediaError, match="did you mean 'ssdlite320_mobilenet_v3_large'"):
        load_detector("ssdlite320_mobilenetv3_large")


def test_detector_none_returns_each_whole_image_as_one_person():
    first, second = load_detector("none")([np.zeros((4, 6, 3), np.uint8), np.zeros((5, 7, 3), np.uint8)])
    assert first.bboxes_xywh.tolist() == [[0, 0, 6, 4]]
    assert second.bboxes_xywh.tolist() == [[0, 0, 7, 5]]
    assert first.scores.tolist() == [1]


def test_torchvision_detector_gets_rgb_and_keeps_persons_only():
    import torch

    received = []

    def model(inputs):
        received.extend(inputs)
        boxes = torch.tensor([[1, 2, 4, 8], [0, 0, 9, 9], [5, 5, 6, 7], [3, 3, 3, 9.0]])
        return [{"boxes": boxes, "labels": torch.tensor([1, 2, 1, 1]), "scores": torch.tensor([0.9, 0.8, 0.1, 0.7])}]

    image = np.zeros((10, 12, 3), np.uint8)
    image[..., 0] = 255  # blue
    (detections,) = TorchvisionDetector(model, person_label=1, score_threshold=0.3, device="cpu")([image])
    assert detections.bboxes_xywh.tolist() == [[1, 2, 3, 6]]
    np.testing.assert_allclose(detections.scores, [0.9])
    assert received[0].shape == (3, 10, 12)
    assert received[0][:, 0, 0].tolist() == [0, 0, 1]


def test_weights_that_cannot_be_downloaded_are_reported_in_one_line(monkeypatch):
    from torchvision import models

    def offline(*args, **kwargs):
        raise OSError("network is\nunreachable")

    monkeypatch.setattr(models, "get_model", offline)
    with pytest.raises(MediaError, match=r"cannot download https://.*network is unreachable"):
        load_detector("ssdlite320_mobilenet_v3_large")
