"""Encoding and decoding, against a pixel-by-pixel loop and as a pair."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pose.heatmap import decode, encode

WIDTH, HEIGHT = 48, 64


def encode_one(x_heatmap: float, y_heatmap: float, visible: float = 1) -> tuple[np.ndarray, float]:
    maps, weights = encode([[4 * x_heatmap, 4 * y_heatmap]], [visible], (WIDTH, HEIGHT))
    return maps[0], weights[0]


def map_with(*pixels: tuple[int, int, float]) -> np.ndarray:
    heatmap = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    for x, y, value in pixels:
        heatmap[y, x] = value
    return heatmap


def plain_target(x: float, y: float) -> np.ndarray:
    """One Gaussian, one pixel after another."""
    center_x, center_y = int(x / 4 + 0.5), int(y / 4 + 0.5)
    heatmap = np.zeros((HEIGHT, WIDTH))
    for row in range(max(0, center_y - 6), min(HEIGHT, center_y + 7)):
        for column in range(max(0, center_x - 6), min(WIDTH, center_x + 7)):
            heatmap[row, column] = math.exp(-((row - center_y) ** 2 + (column - center_x) ** 2) / (2 * 2**2))
    return heatmap


@settings(max_examples=50)
@given(st.floats(-40, 240), st.floats(-40, 300))
def test_encode_equals_a_loop_over_pixels(x, y):
    maps, weights = encode([[x, y]], [2], (WIDTH, HEIGHT), stride=4, sigma=2)

    np.testing.assert_allclose(maps[0], plain_target(x, y), atol=1e-6)
    assert plain_target(x, y).any() <= weights[0]


def test_the_peak_is_one_on_the_nearest_grid_point():
    heatmap, weight = encode_one(20.4, 30.6)

    assert heatmap[31, 20] == 1.0
    assert weight == 1.0
    assert np.count_nonzero(heatmap) == 13 * 13


def test_an_unlabelled_keypoint_has_no_weight_and_an_empty_map():
    heatmap, weight = encode_one(20, 30, visible=0)

    assert weight == 0
    assert not heatmap.any()


@pytest.mark.parametrize(("x_grid", "touches"), [(-6, True), (-8, False), (WIDTH + 5, True), (WIDTH + 6, False)])
def test_weight_is_lost_when_the_patch_lies_wholly_outside(x_grid, touches):
    # Above zero the nearest grid point is int(x + .5); below, int() rounds up, so half a step more is needed.
    heatmap, weight = encode_one(x_grid if x_grid > 0 else x_grid - 0.5, 30)

    assert weight == touches == heatmap.any()


def test_a_patch_that_ends_on_the_pixel_before_the_map_keeps_its_weight_as_in_the_reference():
    heatmap, weight = encode_one(-7.5, 30)

    assert not heatmap.any()
    assert weight == 1


def test_rounding_is_toward_zero_as_in_the_reference():
    maps, _ = encode([[-5.9, 40.0]], [1], (WIDTH, HEIGHT))

    assert maps[0, 10, 0] == 1.0  # int(-1.475 + .5) is 0; floor would give -1 and leave .88 here


@settings(max_examples=100)
@given(st.floats(0, WIDTH - 1), st.floats(0, HEIGHT - 1))
def test_decode_of_encode_is_within_half_a_heatmap_pixel(x, y):
    keypoint, score = decode(encode_one(x, y)[0])

    assert np.abs(keypoint - [x, y]).max() <= 0.5 + 1e-6
    assert score == 1.0


@given(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1))
def test_decode_of_encode_is_exact_on_grid_points(x, y):
    np.testing.assert_array_equal(decode(encode_one(x, y)[0])[0], [x, y])


@pytest.mark.parametrize(
    ("neighbour", "expected"),
    [((21, 30), (20.25, 30)), ((19, 30), (19.75, 30)), ((20, 31), (20, 30.25)), ((20, 29), (20, 29.75))],
)
def test_decode_moves_a_quarter_pixel_toward_the_higher_neighbour(neighbour, expected):
    keypoint, score = decode(map_with((20, 30, 1.0), (*neighbour, 0.5)))

    np.testing.assert_allclose(keypoint, expected)
    assert score == 1.0


def test_decode_moves_on_both_axes_at_once():
    np.testing.assert_allclose(decode(map_with((20, 30, 1.0), (19, 30, 0.1), (20, 31, 0.9)))[0], [19.75, 30.25])


def test_equal_neighbours_leave_the_peak_where_it_is():
    np.testing.assert_array_equal(decode(map_with((20, 30, 1.0), (19, 30, 0.5), (21, 30, 0.5)))[0], [20, 30])


@pytest.mark.parametrize(
    ("x", "y", "moves"),
    [
        (0, 30, False), (1, 30, False), (2, 30, True), (WIDTH - 2, 30, True), (WIDTH - 1, 30, False),
        (20, 0, False), (20, 1, False), (20, 2, True), (20, HEIGHT - 2, True), (20, HEIGHT - 1, False),
    ],
)  # fmt: skip
def test_peaks_on_the_border_keep_the_grid_point_on_both_axes(x, y, moves):
    pixels = [(x, y, 1.0)]
    pixels += [(x - 1, y, 0.5)] if x > 0 else []
    pixels += [(x, y - 1, 0.5)] if y > 0 else []

    keypoint, _ = decode(map_with(*pixels))

    np.testing.assert_allclose(keypoint, [x - 0.25, y - 0.25] if moves else [x, y])


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_a_map_without_a_positive_value_gives_the_origin(level):
    heatmap = np.full((HEIGHT, WIDTH), level - 1, dtype=np.float32)
    heatmap[30, 20] = level

    keypoint, score = decode(heatmap)

    np.testing.assert_array_equal(keypoint, [0, 0])
    assert score == level


@settings(max_examples=30)
@given(hnp.arrays(np.float32, (2, 3, 9, 7), elements=st.floats(-1, 1, width=16)))
def test_a_batch_is_decoded_as_its_maps_one_by_one(heatmaps):
    before = heatmaps.copy()

    keypoints, scores = decode(heatmaps)

    assert keypoints.shape == (2, 3, 2)
    assert scores.shape == (2, 3)
    for index in np.ndindex(2, 3):
        keypoint, score = decode(heatmaps[index])
        np.testing.assert_array_equal(keypoints[index], keypoint)
        assert scores[index] == score == heatmaps[index].max()
    np.testing.assert_array_equal(heatmaps, before)


def test_a_view_of_memory_is_decoded_as_its_copy():
    heatmaps = np.random.default_rng(3).normal(size=(64, 48, 5)).transpose(2, 0, 1)

    np.testing.assert_array_equal(decode(heatmaps)[0], decode(heatmaps.copy())[0])


def test_no_maps_give_no_keypoints():
    keypoints, scores = decode(np.zeros((0, 17, HEIGHT, WIDTH), dtype=np.float32))

    assert keypoints.shape == (0, 17, 2)
    assert scores.shape == (0, 17)
