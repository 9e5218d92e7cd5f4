"""Decoding of detector outputs, against hand calculation."""

import numpy as np
import pytest

from pose.errors import MediaError
from pose.inference.detectors.decoding import (
    cell_count,
    decode_boxes_and_class_scores,
    decode_boxes_labels_scores,
    decode_dets,
    decode_yolox,
)


def yolox_rows(bbox_xyxy: tuple[float, ...], score: float) -> np.ndarray:
    """Raw output for a 64x32 input with one person, in cell (3, 0) of the stride-8 grid."""
    x, y, right, bottom = bbox_xyxy
    w, h = right - x, bottom - y
    rows = np.zeros((1, (8 * 4) + (4 * 2) + (2 * 1), 85), np.float32)
    rows[0, 3, :6] = ((x + w / 2) / 8 - 3, (y + h / 2) / 8, np.log(w / 8), np.log(h / 8), score, 1)
    return rows


def test_decode_yolox_inverts_the_encoding_of_a_cell():
    boxes, scores = decode_yolox(yolox_rows((20, 1, 35, 10), 0.7), (64, 32))
    np.testing.assert_allclose(boxes[3], (20, 1, 35, 10), atol=1e-4)
    assert scores[3] == pytest.approx(0.7)
    assert np.delete(scores, 3).max() == 0


@pytest.mark.parametrize(("row", "center"), [(0, (0, 0)), (9, (8, 8)), (32 + 5, (16, 16)), (40 + 1, (32, 0))])
def test_decode_yolox_uses_the_cell_and_stride_of_each_grid(row, center):
    boxes, _ = decode_yolox(np.zeros((1, 42, 85), np.float32), (64, 32))
    np.testing.assert_allclose((boxes[row, :2] + boxes[row, 2:]) / 2, center)


def test_the_number_of_yolox_rows_is_that_of_its_grids():
    assert cell_count((64, 32)) == 42
    assert cell_count((416, 416)) == 3549
    assert cell_count((640, 640)) == 8400


def test_yolox_rows_of_another_number_are_refused():
    with pytest.raises(MediaError, match=r"raw output \(1, 42, 5 \+ classes\).*got \(1, 41, 85\)"):
        decode_yolox(np.zeros((1, 41, 85), np.float32), (64, 32))


def test_yolox_boxes_that_are_decoded_already_are_refused():
    rows = np.zeros((1, 42, 85), np.float32)
    rows[0, :, 2:4] = (15, 9)  # box sizes in pixels
    with pytest.raises(MediaError, match="sizes in pixels; export it without decoding"):
        decode_yolox(rows, (64, 32))


DETS = np.array([[[1, 2, 3, 4, 0.9], [5, 6, 7, 8, 0.8], [0, 0, 9, 9, 0.7]]], np.float32)


def test_dets_keep_the_boxes_of_class_0():
    boxes, scores = decode_dets(DETS, np.array([[0, 2, 0]]))
    assert boxes.tolist() == [[1, 2, 3, 4], [0, 0, 9, 9]]
    np.testing.assert_allclose(scores, [0.9, 0.7])


def test_dets_without_labels_are_all_persons():
    assert len(decode_dets(DETS)[0]) == 3


@pytest.mark.parametrize(
    ("dets", "labels"), [((1, 3, 6), (1, 3)), ((1, 3, 5), (1, 2)), ((2, 3, 5), (2, 3)), ((3, 5), (3,))]
)
def test_dets_of_another_shape_are_refused(dets, labels):
    with pytest.raises(MediaError, match=r"expected dets \(1, N, 5\)"):
        decode_dets(np.zeros(dets, np.float32), np.zeros(labels, np.int64))


def test_class_scores_of_the_person_are_the_first_row():
    boxes = np.arange(8, dtype=np.float32).reshape(1, 2, 4)
    scores = np.array([[[0.1, 0.2], [0.8, 0.9]]], np.float32)
    persons, person_scores = decode_boxes_and_class_scores(boxes, scores)
    assert persons.tolist() == boxes[0].tolist()
    np.testing.assert_allclose(person_scores, [0.1, 0.2])


def test_class_scores_of_another_shape_are_refused():
    with pytest.raises(MediaError, match=r"scores \(1, classes, A\), got \(1, 2, 4\) and \(1, 2, 80\)"):
        decode_boxes_and_class_scores(np.zeros((1, 2, 4), np.float32), np.zeros((1, 2, 80), np.float32))


def test_torchvision_outputs_keep_the_boxes_of_label_1():
    boxes, scores = decode_boxes_labels_scores(
        np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32), np.array([3, 1]), np.array([0.9, 0.8], np.float32)
    )
    assert boxes.tolist() == [[5, 6, 7, 8]]
    np.testing.assert_allclose(scores, [0.8])


@pytest.mark.parametrize(
    ("boxes", "labels", "scores"),
    [((3, 4), (2,), (3,)), ((3, 4), (3,), (2,)), ((3, 5), (3,), (3,)), ((12,), (3,), (3,))],
)
def test_outputs_that_do_not_belong_together_are_refused(boxes, labels, scores):
    with pytest.raises(MediaError, match=r"expected boxes \(N, 4\), labels \(N,\) and scores \(N,\)"):
        decode_boxes_labels_scores(np.zeros(boxes, np.float32), np.ones(labels, np.int64), np.ones(scores, np.float32))


@pytest.mark.parametrize("scores", [(1, 0, 5), (2, 80, 5), (1, 80, 4)])
def test_class_scores_of_no_class_or_another_batch_are_refused(scores):
    with pytest.raises(MediaError, match="expected boxes"):
        decode_boxes_and_class_scores(np.zeros((1, 5, 4), np.float32), np.zeros(scores, np.float32))
