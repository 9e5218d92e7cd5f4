"""Detectors in ONNX files: real ones against ground truth and a reference, tiny ones against hand calculation."""

import builtins
import json
from pathlib import Path

import numpy as np
import pytest

from pose.errors import MediaError, PoseError
from pose.images import read_image
from pose.inference.boxes import parse_boxes
from pose.inference.detectors import load_detector
from pose.inference.detectors.detections import Detections, nms
from pose.inference.detectors.onnx_file import read_stem

YOLOX = "data/detector/yolox_nano.onnx"
PICODET = "detector/picodet_s_person_416_fp16w.onnx"
RTMDET = "detector/rtmdet_nano_person.onnx"
PEOPLE = "data/coco_person_small"
BLACK = np.zeros((64, 128, 3), np.uint8)


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


def without(package: str, monkeypatch) -> None:
    """Make the import of a package fail."""
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == package:
            raise ImportError(name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


# --- real files


@pytest.mark.parametrize("runtime", ["onnxruntime", "opencv"])
def test_yolox_returns_the_reference_boxes(shared, monkeypatch, runtime):
    if runtime == "opencv":
        without("onnxruntime", monkeypatch)
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


@pytest.mark.parametrize("file", [YOLOX, PICODET, RTMDET])
def test_real_detectors_find_the_large_persons(shared, file):
    """Wrong colors, normalization, scale or classes cost most of them."""
    pytest.importorskip("onnxruntime")
    content = json.loads((shared / PEOPLE / "annotations/person_keypoints_val.json").read_text())
    detector = load_detector(shared / file)
    found = []
    for image in content["images"][:24]:
        persons = [row for row in content["annotations"] if row["image_id"] == image["id"] and not row["iscrowd"]]
        large = np.array([row["bbox"] for row in persons if row["area"] > 96**2]).reshape(-1, 4)
        (detections,) = detector([read_image(shared / PEOPLE / "val" / image["file_name"])])
        if len(large):
            found += list((iou(large, detections.bboxes_xywh).max(axis=1, initial=0) > 0.6).tolist())
        assert (np.diff(detections.scores) <= 0).all()
    assert len(found) > 15
    assert np.mean(found) > 0.8


def test_detectors_refuse_a_pose_model(shared):
    pytest.importorskip("onnxruntime")
    with pytest.raises(MediaError, match=r"movenet-lightning\.onnx: not a person detector.*int32 \(1, 192, 192, 3\)"):
        load_detector(shared / "peers/movenet-lightning.onnx")
    with pytest.raises(MediaError, match=r"not a person detector.*\(1, 17, 64, 48\)"):
        load_detector(shared / "teacher/pp-tinypose-256x192.onnx")


def test_a_file_that_ends_early_is_refused(shared, tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "cut.onnx").write_bytes((shared / RTMDET).read_bytes()[:100_000])
    with pytest.raises(MediaError, match=r"cut\.onnx: not an ONNX model"):
        load_detector(tmp_path / "cut.onnx")


def test_persons_below_the_score_threshold_are_dropped(shared):
    path, _, scores = reference_images(shared / PEOPLE, 1)[0]
    (detections,) = load_detector(shared / YOLOX, score_threshold=0.5)([read_image(path)])
    assert len(detections.scores) == (scores > 0.5).sum()


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


# --- tiny files


def test_boxes_are_in_image_pixels_and_clipped_to_the_image(write_onnx):
    dets = np.array([[[-5, -2, 25, 58, 0.7], [10, 8, 20, 24, 0.9], [70, 0, 80, 9, 0.8]]], np.float32)
    labels = np.zeros((1, 3), np.int64)
    detector = load_detector(write_onnx((1, 3, 32, 64), {"dets": dets, "labels": labels}, "Conv"))
    (detections,) = detector([BLACK])  # twice the input
    np.testing.assert_allclose(detections.bboxes_xywh, [[20, 16, 20, 32], [0, 0, 50, 64]], atol=1e-4)
    np.testing.assert_allclose(detections.scores, [0.9, 0.7])


def test_a_model_that_stretches_images_has_a_scale_for_each_axis(write_onnx):
    boxes = np.array([[[16, 16, 48, 64]]], np.float32)
    path = write_onnx((1, 3, 64, 64), {"boxes": boxes, "scores": np.array([[[0.9]]], np.float32)})
    (detections,) = load_detector(path)([BLACK])
    np.testing.assert_allclose(detections.bboxes_xywh, [[32, 16, 64, 48]], atol=1e-4)


def test_nms_is_applied_where_the_model_does_not(write_onnx):
    pair = np.array([[0, 0, 10, 20], [1, 0, 11, 20]], np.float32)
    scores = np.array([0.8, 0.9], np.float32)
    path = write_onnx((1, 3, 64, 64), {"boxes": pair[None], "scores": scores[None, None]})
    (detections,) = load_detector(path)([BLACK])
    np.testing.assert_allclose(detections.scores, [0.9])
    path = write_onnx((3, "h", "w"), {"boxes": pair, "scores": scores, "labels": np.ones(2, np.int64)})
    (detections,) = load_detector(path)([BLACK])
    np.testing.assert_allclose(detections.scores, [0.9, 0.8])


def test_the_model_runs_on_one_image_at_a_time(write_onnx):
    path = write_onnx((1, 3, 32, 64), {"dets": np.array([[[0, 0, 9, 9, 0.5]]], np.float32)}, "Slice")
    first, second = load_detector(path)([BLACK, np.zeros((32, 64, 3), np.uint8)])
    np.testing.assert_allclose(first.bboxes_xywh, [[0, 0, 18, 18]])
    np.testing.assert_allclose(second.bboxes_xywh, [[0, 0, 9, 9]])


def test_nobody_gives_empty_arrays(write_onnx):
    path = write_onnx((1, 3, 32, 64), {"raw": np.zeros((1, 42, 6), np.float32)})
    (detections,) = load_detector(path)([BLACK])
    assert detections.bboxes_xywh.shape == (0, 4)
    assert detections.scores.shape == (0,)


def test_boxes_and_scores_that_are_not_finite_are_nobody(write_onnx):
    boxes = np.array([[0, 0, 9, 9], [np.nan, 0, 9, 9], [0, 0, np.inf, 9], [1, 1, 9, 9]], np.float32)
    scores = np.array([0.9, 0.9, 0.9, np.nan], np.float32)
    path = write_onnx((1, 3, 32, 64), {"boxes": boxes, "labels": np.ones(4, np.int64), "scores": scores})
    (detections,) = load_detector(path)([BLACK])
    assert detections.scores.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize(("text", "damaged"), [(b"boxes", b"box\x80s"), (b"WIDTH", b"WID\x80H")])
def test_names_that_are_not_text_are_refused_with_one_line(write_onnx, text, damaged):
    outputs = {"boxes": np.ones((1, 4), np.float32), "labels": np.ones(1, np.int64), "scores": np.ones(1, np.float32)}
    path = write_onnx((1, 3, "HEIGHT", "WIDTH"), outputs)
    path.write_bytes(path.read_bytes().replace(text, damaged))
    with pytest.raises(MediaError, match="not an ONNX model that can be read") as caught:
        load_detector(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("score", [1.5, 90.0, np.inf])
def test_scores_above_1_are_refused(write_onnx, score):
    boxes, scores = np.array([[0, 0, 9, 9]], np.float32), np.array([score], np.float32)
    path = write_onnx((1, 3, 32, 64), {"boxes": boxes, "labels": np.ones(1, np.int64), "scores": scores})
    with pytest.raises(MediaError, match=f"expected scores from 0 to 1, got {score:g}"):
        load_detector(path)([BLACK])


def test_a_box_of_which_next_to_nothing_is_in_the_image_is_nobody(write_onnx):
    boxes = np.array([[0, 0, 9, 9], [-9, 0, 1e-5, 9], [-9, -9, -1, -1]], np.float32)
    scores = np.full(3, 0.9, np.float32)
    path = write_onnx((1, 3, 32, 64), {"boxes": boxes, "labels": np.ones(3, np.int64), "scores": scores})
    (detections,) = load_detector(path)([BLACK])
    assert len(detections.bboxes_xywh) == 1
    parse_boxes(detections.bboxes_xywh)


def test_a_model_that_fails_is_reported_in_one_line(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    image = helper.make_tensor_value_info("image", float32, (1, 3, "h", "w"))
    rows = helper.make_tensor_value_info("rows", float32, (1, "n", 85))
    shape = onnx.numpy_helper.from_array(np.array([1, -1, 85]), "shape")  # 85 divides no 3 x 416 x 416
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["image", "shape"], ["rows"])], "g", [image], [rows], [shape]
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    detector = load_detector(path)
    with pytest.raises(
        MediaError, match=r"model\.onnx: the detector fails on an input of \(1, 3, 416, 416\)"
    ) as caught:
        detector([BLACK])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stem", "expected"), [("Conv", "3x3 convolution, stride 2"), ("Slice", "slices"), (None, "other")]
)
def test_the_first_layer_is_read_from_the_file(write_onnx, stem, expected):
    assert read_stem(write_onnx((1, 3, 32, 64), {"out": np.zeros(1, np.float32)}, stem)) == expected


def test_the_first_layer_of_real_detectors_is_read(shared):
    pytest.importorskip("onnx")
    assert read_stem(shared / RTMDET) == "3x3 convolution, stride 2"
    assert read_stem(shared / YOLOX) == "slices"


def test_a_missing_package_onnx_is_named(write_onnx, monkeypatch):
    path = write_onnx((1, 3, 32, 64), {"dets": np.zeros((1, 3, 5), np.float32)}, "Conv")
    without("onnx", monkeypatch)
    with pytest.raises(PoseError, match=r"need the package onnx.*pip install 'dyconv-pose\[export\]'"):
        load_detector(path)


@pytest.mark.parametrize("runtime", ["onnxruntime", "opencv"])
def test_a_file_that_is_not_a_model_is_refused_with_one_line(tmp_path, monkeypatch, runtime):
    if runtime == "opencv":
        without("onnxruntime", monkeypatch)
    (tmp_path / "bad.onnx").write_bytes(b"not a model" * 9)
    with pytest.raises(MediaError, match=r"bad\.onnx: not an ONNX model") as caught:
        load_detector(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)


def test_without_onnxruntime_other_formats_are_refused_with_what_to_install(shared, monkeypatch):
    without("onnxruntime", monkeypatch)
    for file in (PICODET, RTMDET):
        with pytest.raises(MediaError, match=r"[Ww]ithout onnxruntime.*pip install 'dyconv-pose\[export\]'") as caught:
            load_detector(shared / file)([BLACK])
        assert "\n" not in str(caught.value)


def test_nms_keeps_the_best_of_overlapping_boxes():
    boxes = Detections(np.array([[0, 0, 10, 10], [1, 0, 10, 10], [30, 0, 5, 5.0]]), np.array([0.5, 0.9, 0.4]))
    assert nms(boxes, 0.65).scores.tolist() == [0.9, 0.4]


# --- a detector of torchvision


@pytest.mark.filterwarnings("ignore")
def test_an_exported_torchvision_detector_finds_what_the_model_finds(tmp_path):
    """With random weights, and batch norm that keeps its features apart."""
    pytest.importorskip("onnxruntime")
    torch = pytest.importorskip("torch")
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    from pose.inference.detectors.torchvision_models import TorchvisionDetector

    torch.manual_seed(0)
    model = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=3,
        min_size=64,
        max_size=96,
        box_score_thresh=0.0,
        box_detections_per_img=20,
        rpn_post_nms_top_n_test=30,
    )
    model.roi_heads.box_predictor.cls_score.weight.data *= 100
    for _ in range(20):
        model.backbone(4 * torch.rand(1, 3, 64, 96) - 2)
    model.eval()
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    path = tmp_path / "torchvision.onnx"
    torch.onnx.export(
        model, ([torch.rand(3, 60, 80)],), str(path), dynamo=False, opset_version=17, input_names=["image"],
        dynamic_axes={"image": {1: "height", 2: "width"}},
    )  # fmt: skip
    (expected,) = TorchvisionDetector(model, person_label=1, score_threshold=0.1, device="cpu")([image])
    (detections,) = load_detector(path, score_threshold=0.1)([image])
    assert len(expected.scores) > 5
    assert np.ptp(expected.scores) > 0.01
    np.testing.assert_allclose(detections.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(detections.bboxes_xywh, expected.bboxes_xywh, atol=0.01)
