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
