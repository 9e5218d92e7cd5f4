"""Person boxes of users: formats, and the warning for boxes outside the image."""

import warnings

import numpy as np
import pytest

from pose.errors import DataError
from pose.inference.boxes import parse_boxes, warn_outside, whole_image

IMAGE = np.zeros((480, 640, 3), np.uint8)


def warnings_of(*boxes):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_outside([np.array(boxes, np.float32).reshape(-1, 4)], [IMAGE], stacklevel=1)
    return [str(warning.message) for warning in caught]


def test_corners_become_left_top_width_height():
    corners = np.array([[10, 20, 110, 220.5]])
    np.testing.assert_array_equal(parse_boxes(corners, "xyxy"), [[10, 20, 100, 200.5]])
    np.testing.assert_array_equal(corners, [[10, 20, 110, 220.5]])  # the user's array is unchanged
    np.testing.assert_array_equal(parse_boxes(corners), [[10, 20, 110, 220.5]])
    assert parse_boxes([], "xyxy").shape == (0, 4)


def test_corners_in_the_wrong_order_are_an_error_that_names_the_format():
    with pytest.raises(DataError, match="left, top, right, bottom"):
        parse_boxes([[110, 20, 10, 220]], "xyxy")
    with pytest.raises(DataError, match="left, top, width, height"):
        parse_boxes([[110, 20, -10, 220]])


ROW = [1, 2, 30, 40]


@pytest.mark.parametrize(
    "boxes",
    [
        np.array([ROW], complex),
        np.array([ROW], bool),
        [["1", "2", "30", "40"]],
        np.array([ROW]).astype("S"),
        b"1234",
        "boxes",
        np.array([ROW]).astype("datetime64[s]"),
        np.array([ROW]).astype("timedelta64[s]"),
        np.ma.array([ROW], mask=[[0, 0, 1, 0]]),
        [np.ma.array(ROW, mask=[0, 0, 1, 0])],
        np.array([ROW], object),
        [[1, 2, 3, None]],
        [[1, 2, 30, 10**30]],
        [ROW, ROW[:3]],
        {"bbox": ROW},
        np.array([(1, 2, 3, 4)], dtype="i4,i4,i4,i4"),
    ],
    ids=lambda boxes: f"{type(boxes).__name__} {getattr(boxes, 'dtype', '')}",
)
def test_boxes_that_are_no_numbers_are_refused_and_not_converted(boxes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=r"expected boxes \(N, 4\) as numbers") as caught:
            parse_boxes(boxes)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "boxes",
    [
        [[1, 2, 3, np.nan]],
        [[1, 2, np.inf, 3]],
        [[0, 0, 1e9, 10]],
        [[1e30, 0, 10, 10]],
        [[0, 0, 1e-30, 1]],
        [[1, 2, 3]],
        ROW,
        [[]],
        np.zeros((3, 0)),
        np.zeros((1, 4, 1)),
    ],
    ids=str,
)
def test_boxes_of_other_shapes_and_sizes_are_refused(boxes):
    with pytest.raises(DataError, match=r"expected boxes \(N, 4\) as left, top, width, height"):
        parse_boxes(boxes)


@pytest.mark.parametrize("kind", ["int8", "uint16", "int64", "float16", "float32", "float64"])
def test_boxes_of_all_types_of_real_numbers_are_the_same(kind):
    boxes = parse_boxes(np.array([ROW], kind))
    assert boxes.dtype == np.float32
    np.testing.assert_array_equal(boxes, [ROW])


def test_an_unknown_format_is_an_error_that_suggests_the_nearest():
    with pytest.raises(DataError, match="did you mean 'xyxy'"):
        parse_boxes([[1, 2, 3, 4]], "xyxyx")


@pytest.mark.parametrize(
    "box", [(0, 0, 640, 480), (-25, -25, 100, 100), (-49, 100, 100, 100), (600, 440, 56, 56)], ids=str
)
def test_boxes_at_least_half_inside_give_no_warning(box):
    assert warnings_of(box, box) == []


@pytest.mark.parametrize(
    "box", [(-51, 100, 100, 100), (700, 100, 50, 50), (-300, -300, 100, 100), (400, 300, 550, 420)]
)
def test_a_box_more_than_half_outside_is_warned_about(box):
    (message,) = warnings_of((0, 0, 100, 100), box)
    assert "1 of 2 boxes lie more than half outside the image of 640x480 pixels (box 1: " in message
    assert "boxes_format='xyxy'" in message


def test_no_boxes_give_no_warning():
    assert warnings_of() == []


def test_the_whole_image_is_one_box():
    np.testing.assert_array_equal(whole_image(IMAGE), [[0, 0, 640, 480]])
