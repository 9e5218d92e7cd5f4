"""Boxes, views and matrices, compared with OpenCV and with flipped images, and by algebraic properties."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose.geometry import (
    View,
    box_to_view,
    clean_box,
    compose,
    invert,
    iou,
    pixel_blocks,
    transform_points,
    view_to_matrix,
)

OUTPUT_WH = (192, 256)
views = st.builds(
    View,
    center=st.tuples(st.floats(-50, 700), st.floats(-50, 700)),
    scale=st.tuples(st.floats(2, 900), st.floats(2, 900)),
    rotation_deg=st.floats(-180, 180),
    flip=st.booleans(),
)


@pytest.mark.parametrize(
    ("bbox_xywh", "scale"),
    [
        ([10, 20, 30, 80], (60, 80)),  # too narrow: the width grows
        ([10, 20, 90, 40], (90, 120)),  # too flat: the height grows
        ([10, 20, 60, 80], (60, 80)),
    ],
)
def test_box_to_view_extends_the_short_side_to_the_aspect_ratio_about_the_center(bbox_xywh, scale):
    view = box_to_view(bbox_xywh, 3 / 4, padding=1.0)

    assert view.scale == pytest.approx(scale)
    assert view.center == (bbox_xywh[0] + bbox_xywh[2] / 2, bbox_xywh[1] + bbox_xywh[3] / 2)


def test_padding_multiplies_both_sides_and_the_area_includes_it():
    view = box_to_view([0, 0, 30, 40], 3 / 4, padding=1.25)

    assert view.scale == pytest.approx((37.5, 50))
    assert view.area == pytest.approx(37.5 * 50)


def test_clean_box_makes_a_box_one_pixel_shorter():
    np.testing.assert_array_equal(clean_box([10, 20, 30, 40], (640, 480)), [10, 20, 29, 39])


@pytest.mark.parametrize("bbox_xywh", [[10, 10, 1, 1], [10, 10, 1.0005, 1], [639, 479, 50, 50], [10, 10, 0, 0]])
def test_clean_box_is_none_for_one_point_which_has_no_view(bbox_xywh):
    assert clean_box(bbox_xywh, (640, 480)) is None


@pytest.mark.parametrize("bbox_xywh", [[10, 10, 1, 2], [10, 10, 50, 1], [10, 10, 0, 30]])
def test_clean_box_keeps_a_box_with_one_side_as_the_protocol_does(bbox_xywh):
    view = box_to_view(clean_box(bbox_xywh, (640, 480)), 0.75)
    assert np.isfinite(view_to_matrix(view, (192, 256))).all()


def test_clean_box_ends_at_the_last_pixel():
    np.testing.assert_array_equal(clean_box([-5, -7, 1000, 1000], (640, 480)), [0, 0, 639, 479])


@pytest.mark.parametrize("bbox_xywh", [[700, 10, 20, 20], [10, 500, 20, 20]])
def test_clean_box_is_none_for_a_box_outside_the_image(bbox_xywh):
    assert clean_box(bbox_xywh, (640, 480)) is None


def test_corners_of_an_upright_view_map_to_corners_of_the_output():
    matrix = view_to_matrix(View((100, 80), (60, 80)), OUTPUT_WH)

    corners = transform_points([[70, 40], [130, 40], [70, 120], [130, 120], [100, 80]], matrix)

    np.testing.assert_allclose(corners, [[0, 0], [192, 0], [0, 256], [192, 256], [96, 128]], atol=1e-9)


def test_a_view_rotated_clockwise_has_the_right_of_the_image_at_its_top():
    matrix = view_to_matrix(View((100, 80), (60, 80), rotation_deg=90), OUTPUT_WH)

    # A point 40 px to the right of the center is at the top of the crop.
    np.testing.assert_allclose(transform_points([[140, 80]], matrix), [[96, 0]], atol=1e-9)


@pytest.mark.parametrize("rotation_deg", [-77.0, 12.5, 45.0])
def test_rotation_equals_the_rotation_matrix_of_opencv(rotation_deg):
    center, factor = (311.0, 97.5), 192 / 240
    expected = cv2.getRotationMatrix2D(center, rotation_deg, factor)
    expected[:, 2] += [96 - center[0], 128 - center[1]]

    np.testing.assert_allclose(view_to_matrix(View(center, (240, 320), rotation_deg), OUTPUT_WH), expected, atol=1e-9)


@pytest.mark.parametrize("rotation_deg", [0.0, 30.0, -45.0])
def test_the_flip_in_the_matrix_equals_flipping_the_image(rotation_deg):
    rng = np.random.default_rng(5)
    width, height = 160, 120
    image = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (5, 5), 0)
    points = rng.uniform([0, 0], [width, height], (20, 2))
    view = View((70.0, 66.0), (90.0, 120.0), rotation_deg, flip=True)
    view_in_flipped = View((width - 1 - 70.0, 66.0), (90.0, 120.0), rotation_deg)

    image_to_input, flipped_to_input = view_to_matrix(view, OUTPUT_WH), view_to_matrix(view_in_flipped, OUTPUT_WH)
    crop = cv2.warpAffine(image, image_to_input, OUTPUT_WH).astype(int)
    expected_crop = cv2.warpAffine(cv2.flip(image, 1), flipped_to_input, OUTPUT_WH).astype(int)

    flipped_points = points * [-1, 1] + [width - 1, 0]
    expected_points = transform_points(flipped_points, flipped_to_input)
    np.testing.assert_allclose(transform_points(points, image_to_input), expected_points, atol=1e-9)
    assert crop.std() > 20
    assert np.abs(crop - expected_crop).max() <= 3  # both round to OpenCV's 1/32 px, from opposite sides


@given(views)
def test_invert_maps_points_back(view):
    points = np.array([[0.0, 0.0], [191.0, 255.0], [17.0, 201.0]])
    matrix = view_to_matrix(view, OUTPUT_WH)

    np.testing.assert_allclose(transform_points(transform_points(points, invert(matrix)), matrix), points, atol=1e-6)


@given(views)
def test_invert_equals_opencv(view):
    matrix = view_to_matrix(view, OUTPUT_WH)

    np.testing.assert_allclose(invert(matrix), cv2.invertAffineTransform(matrix), rtol=1e-9, atol=1e-6)


@given(views)
def test_the_heatmap_matrix_is_the_input_matrix_divided_by_the_stride(view):
    np.testing.assert_allclose(view_to_matrix(view, OUTPUT_WH) / 4, view_to_matrix(view, (48, 64)), atol=1e-9)


def test_transform_points_of_a_batch_equals_one_by_one():
    rng = np.random.default_rng(0)
    points, matrices = rng.normal(size=(5, 17, 2)), rng.normal(size=(5, 2, 3))

    batch = transform_points(points, matrices)

    assert batch.shape == (5, 17, 2)
    for person in range(5):
        expected = [matrices[person] @ [x, y, 1] for x, y in points[person]]
        np.testing.assert_allclose(batch[person], expected, atol=1e-12)


def test_invert_of_a_batch_equals_one_by_one():
    matrices = np.random.default_rng(1).normal(size=(3, 4, 2, 3))

    np.testing.assert_allclose(invert(matrices)[2, 1], invert(matrices[2, 1]), atol=1e-12)


@given(views, views)
def test_compose_applies_the_inner_matrix_first(first, second):
    inner, outer = view_to_matrix(first, OUTPUT_WH), view_to_matrix(second, OUTPUT_WH)
    points = np.array([[0, 0], [10, 3], [-5, 200]])

    transformed = transform_points(points, compose(outer, inner))

    expected = transform_points(transform_points(points, inner), outer)
    np.testing.assert_allclose(transformed, expected, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("corner", [(0, 0), (7, 2)])
@pytest.mark.parametrize("block", [1, 2, 8, 3])
def test_pixel_blocks_maps_a_pixel_to_the_mean_of_its_block(block, corner):
    rows, columns = np.indices((40, 40))[:, corner[1] : corner[1] + 2 * block, corner[0] : corner[0] + 3 * block]

    point = transform_points([[2, 1]], pixel_blocks(block, corner))  # third block of the second row

    expected = columns[block:, 2 * block :].mean(), rows[block:, 2 * block :].mean()
    np.testing.assert_allclose(point, [expected])


def test_pixel_blocks_accepts_width_and_height():
    np.testing.assert_allclose(transform_points([[1, 1]], pixel_blocks((2, 4), (10, 20))), [[12.5, 25.5]])


def test_iou_of_equal_half_and_disjoint_boxes():
    box = (10, 20, 4, 6)
    others = [box, (10, 20, 2, 6), (12, 20, 4, 6), (14, 20, 4, 6), (0, 0, 0, 0)]

    np.testing.assert_allclose(iou(box, others), [1, 1 / 2, 1 / 3, 0, 0])
    assert iou((0, 0, 0, 0), [(0, 0, 0, 0)]).tolist() == [0]
