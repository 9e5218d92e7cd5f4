"""Formats of detector files, recognized by inputs and outputs."""

from pathlib import Path

import pytest

from pose.errors import MediaError
from pose.inference.detectors.formats import DetectorFormat, Signature, Tensor, recognize

IMAGE = Tensor("images", (1, 3, 416, 416), "float32")
FREE = Tensor("input", (None, 3, None, None), "float32")
BOXES, LABELS, SCORES = (
    Tensor("boxes", (None, 4), "float32"),
    Tensor("labels", (None,), "int64"),
    Tensor("scores", (None,), "float32"),
)
DETS, CLASSES = Tensor("dets", (1, None, 5), "float32"), Tensor("classes", (1, None), "int64")
RTMDET, YOLOX = "3x3 convolution, stride 2", "slices"


def recognized(inputs, outputs, stem="other") -> DetectorFormat:
    return recognize(Path("model.onnx"), Signature(tuple(inputs), tuple(outputs), lambda: stem))


def output(*shape: int | None, dtype: str = "float32", name: str = "out") -> Tensor:
    return Tensor(name, shape, dtype)


@pytest.mark.parametrize("columns", [6, 85])
def test_yolox_has_as_many_rows_as_its_grids_have_cells(columns):
    found = recognized([IMAGE], [output(1, 3549, columns)])
    assert found.title == "YOLOX, raw output"
    assert (found.model_input.size_wh, found.model_input.keep_aspect, found.model_input.rgb) == (
        (416, 416),
        True,
        False,
    )
    assert (found.model_input.mean, found.model_input.std) == ((0, 0, 0), (1, 1, 1))
    assert not found.has_nms


def test_the_input_size_and_layout_are_those_of_the_file():
    found = recognized([Tensor("x", (1, 320, 640, 3), "float32")], [output(1, 4200, 85)])
    assert (found.model_input.layout, found.model_input.size_wh) == ("NHWC", (640, 320))
    found = recognized([Tensor("x", (1, 3, 320, 640), "float32")], [output(1, 4200, 85)])
    assert (found.model_input.layout, found.model_input.size_wh) == ("NCHW", (640, 320))


def test_a_file_of_free_size_gets_the_default_size():
    assert recognized([FREE], [output(None, None, 85)]).model_input.size_wh == (416, 416)
    one_side = Tensor("x", (1, 3, None, 320), "float32")
    assert recognized([one_side], [DETS, CLASSES], RTMDET).model_input.size_wh == (320, 320)


@pytest.mark.parametrize("outputs", [(DETS, CLASSES), (CLASSES, DETS)])
@pytest.mark.parametrize(
    ("stem", "title", "mean"), [(RTMDET, "RTMDet", (103.53, 116.28, 123.675)), (YOLOX, "YOLOX", (0, 0, 0))]
)
def test_rtmdet_and_yolox_with_nms_differ_in_their_first_layer(outputs, stem, title, mean):
    found = recognized([FREE], outputs, stem)
    assert found.title == f"{title} with NMS"
    assert (found.model_input.mean, found.model_input.rgb, found.model_input.keep_aspect) == (mean, False, True)
    assert found.outputs == ("dets", "classes")
    assert found.has_nms


def test_dets_alone_are_recognized():
    assert recognized([IMAGE], [DETS], RTMDET).outputs == ("dets",)


@pytest.mark.parametrize("classes", [1, 80])
@pytest.mark.parametrize("order", [1, -1])
def test_picodet_has_boxes_and_class_scores_in_any_order(classes, order):
    outputs = [output(1, 3598, 4, name="b"), output(1, classes, 3598, name="s")][::order]
    found = recognized([Tensor("image", (1, 3, 320, 416), "float32")], outputs)
    assert found.title == "PicoDet without NMS"
    assert found.outputs == ("b", "s")
    assert (found.model_input.size_wh, found.model_input.keep_aspect, found.model_input.rgb) == (
        (416, 320),
        False,
        True,
    )
    assert found.model_input.mean == pytest.approx((123.675, 116.28, 103.53))
    assert not found.has_nms


@pytest.mark.parametrize("outputs", [(BOXES, LABELS, SCORES), (BOXES, SCORES, LABELS), (SCORES, LABELS, BOXES)])
def test_torchvision_has_boxes_labels_and_scores_in_any_order(outputs):
    found = recognized([Tensor("image", (3, None, None), "float32")], outputs)
    assert found.title == "torchvision detector"
    assert found.outputs == ("boxes", "labels", "scores")
    assert (found.model_input.layout, found.model_input.size_wh) == ("CHW", None)
    assert (found.model_input.rgb, found.model_input.std) == (True, (255, 255, 255))
    fixed = recognized([Tensor("image", (3, 240, 320), "float32")], outputs)
    assert fixed.model_input.size_wh == (320, 240)


def test_further_outputs_of_torchvision_are_left_out():
    masks = output(None, 1, None, None, name="masks")
    assert recognized([Tensor("image", (3, None, None), "float32")], [BOXES, LABELS, SCORES, masks]).outputs == (
        "boxes", "labels", "scores",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([IMAGE], [output(1, 84, 3549)]),  # YOLOv8
        ([IMAGE], [output(1, 300, 6)]),  # YOLOv10
        ([IMAGE], [output(1, 10647, 85)]),  # YOLOv5
        ([IMAGE], [DETS, CLASSES]),  # neither RTMDet's nor YOLOX's first layer
        ([IMAGE], [output(1, 300, 4, name="boxes"), output(1, 300, 91, name="logits")]),  # DETR
        ([IMAGE], [output(1, 17, 64, 48, name="heatmaps")]),
        ([Tensor("input", (1, 192, 192, 3), "int32")], [output(1, 1, 17, 3)]),  # MoveNet
        ([IMAGE], []),
        ([], [output(1, 3549, 85)]),
        ([Tensor("images", (1, 1, 416, 416), "float32")], [output(1, 3549, 85)]),
        ([Tensor("images", (1, 3, 416, 416), "float16")], [output(1, 3549, 85, dtype="float16")]),
        ([IMAGE, Tensor("scale_factor", (1, 2), "float32")], [output(None, 6)]),  # PaddleDetection with NMS
    ],
)
def test_other_models_are_refused_with_what_was_found_in_the_file(inputs, outputs):
    with pytest.raises(MediaError, match=r"model\.onnx: not a person detector of a known format") as caught:
        recognized(inputs, outputs)
    message = str(caught.value)
    assert "\n" not in message
    assert "YOLOX" in message
    assert all(str(tensor) in message for tensor in (*inputs, *outputs))


def test_what_was_found_is_listed_with_names_types_and_sizes():
    with pytest.raises(MediaError, match=r"inputs: input float32 \(\?, 3, \?, \?\); outputs: out int64 \(1, 2\)"):
        recognized([FREE], [output(1, 2, dtype="int64")])


def test_a_fixed_batch_of_several_images_is_refused():
    with pytest.raises(MediaError, match="takes 4 images at a time; export the detector with a batch size of 1"):
        recognized([Tensor("images", (4, 3, 416, 416), "float32")], [output(4, 3549, 85)])


def test_a_pose_model_of_this_project_is_named_as_such():
    crops = Tensor("crops", (None, 256, 192, 3), "uint8")
    with pytest.raises(MediaError, match="it is a pose model: give it as weights"):
        recognized([crops], [output(None, 17, 64, 48, name="heatmaps")])


ROWS = output(1, 3549, 85)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([Tensor("input", (1, 192, 192, 3), "int32")], [output(1, 1, 17, 3)], "not a person .*int32"),  # MoveNet
        ([Tensor("image", (1, 3, 416, 416), "uint8")], [ROWS], "not a person detector.*uint8"),
        ([IMAGE, Tensor("scale_factor", (1, 2), "float32")], [ROWS], "not a person detector.*scale_factor"),
        ([], [ROWS], "not a person detector.*inputs: none"),
        ([Tensor("image", (3, 416), "float32")], [ROWS], "not a person detector"),
        ([Tensor("image", (), "float32")], [ROWS], "not a person detector"),
        ([Tensor("image", (8, 3, 416, 416), "float32")], [ROWS], "takes 8 images at a time"),
        ([Tensor("image", (0, 3, 416, 416), "float32")], [ROWS], "takes 0 images at a time"),
        ([Tensor("image", (1, 3, 100_000, 100_000), "float32")], [BOXES, LABELS, SCORES], "of 100000x100000 pixels"),
        ([Tensor("image", (1, 3, 0, None), "float32")], [DETS, CLASSES], "expected 32 to 4096"),
    ],
)  # fmt: skip
def test_foreign_models_are_refused_before_they_run(inputs, outputs, message):
    with pytest.raises(MediaError, match=message) as caught:
        recognized(inputs, outputs, RTMDET)
    assert str(caught.value).startswith("model.onnx: ")
