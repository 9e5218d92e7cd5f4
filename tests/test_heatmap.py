"""Heatmap encoding and decoding, compared with a loop over pixels and as inverses of each other."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pose.errors import DataError
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


def reference_target(x: float, y: float) -> np.ndarray:
    """Draw one Gaussian pixel by pixel, as the reference does."""
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

    np.testing.assert_allclose(maps[0], reference_target(x, y), atol=1e-6)
    assert reference_target(x, y).any() <= weights[0]


def test_encode_puts_a_peak_of_one_at_the_nearest_grid_point():
    heatmap, weight = encode_one(20.4, 30.6)

    assert heatmap[31, 20] == 1.0
    assert weight == 1.0
    assert np.count_nonzero(heatmap) == 13 * 13


def test_encode_gives_an_unlabeled_keypoint_weight_zero_and_an_empty_map():
    heatmap, weight = encode_one(20, 30, visible=0)

    assert weight == 0
    assert not heatmap.any()


@pytest.mark.parametrize(("x_grid", "overlaps"), [(-6, True), (-8, False), (WIDTH + 5, True), (WIDTH + 6, False)])
def test_encode_gives_weight_zero_if_the_patch_is_entirely_outside(x_grid, overlaps):
    # Above zero the nearest grid point is int(x + .5); below, int() rounds up, so half a step more is needed.
    heatmap, weight = encode_one(x_grid if x_grid > 0 else x_grid - 0.5, 30)

    assert weight == overlaps == heatmap.any()


def test_encode_gives_weight_one_if_the_patch_ends_one_pixel_before_the_map_as_in_the_reference():
    heatmap, weight = encode_one(-7.5, 30)

    assert not heatmap.any()
    assert weight == 1


def test_encode_rounds_toward_zero_as_in_the_reference():
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
    ("neighbor", "expected"),
    [((21, 30), (20.25, 30)), ((19, 30), (19.75, 30)), ((20, 31), (20, 30.25)), ((20, 29), (20, 29.75))],
)
def test_decode_moves_a_quarter_pixel_toward_the_higher_neighbor(neighbor, expected):
    keypoint, score = decode(map_with((20, 30, 1.0), (*neighbor, 0.5)))

    np.testing.assert_allclose(keypoint, expected)
    assert score == 1.0


def test_decode_moves_on_both_axes_at_once():
    np.testing.assert_allclose(decode(map_with((20, 30, 1.0), (19, 30, 0.1), (20, 31, 0.9)))[0], [19.75, 30.25])


def test_decode_does_not_move_a_peak_between_equal_neighbors():
    np.testing.assert_array_equal(decode(map_with((20, 30, 1.0), (19, 30, 0.5), (21, 30, 0.5)))[0], [20, 30])


@pytest.mark.parametrize(
    ("x", "y", "moves"),
    [
        (0, 30, False), (1, 30, False), (2, 30, True), (WIDTH - 2, 30, True), (WIDTH - 1, 30, False),
        (20, 0, False), (20, 1, False), (20, 2, True), (20, HEIGHT - 2, True), (20, HEIGHT - 1, False),
    ],
)  # fmt: skip
def test_decode_does_not_move_a_peak_on_the_border_on_either_axis(x, y, moves):
    pixels = [(x, y, 1.0)]
    pixels += [(x - 1, y, 0.5)] if x > 0 else []
    pixels += [(x, y - 1, 0.5)] if y > 0 else []

    keypoint, _ = decode(map_with(*pixels))

    np.testing.assert_allclose(keypoint, [x - 0.25, y - 0.25] if moves else [x, y])


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_decode_gives_the_origin_for_a_map_without_a_positive_value(level):
    heatmap = np.full((HEIGHT, WIDTH), level - 1, dtype=np.float32)
    heatmap[30, 20] = level

    keypoint, score = decode(heatmap)

    np.testing.assert_array_equal(keypoint, [0, 0])
    assert score == level


@settings(max_examples=30)
@given(hnp.arrays(np.float32, (2, 3, 9, 7), elements=st.floats(-1, 1, width=16)))
def test_decode_of_a_batch_equals_one_by_one(heatmaps):
    before = heatmaps.copy()

    keypoints, scores = decode(heatmaps)

    assert keypoints.shape == (2, 3, 2)
    assert scores.shape == (2, 3)
    for index in np.ndindex(2, 3):
        keypoint, score = decode(heatmaps[index])
        np.testing.assert_array_equal(keypoints[index], keypoint)
        assert scores[index] == score == heatmaps[index].max()
    np.testing.assert_array_equal(heatmaps, before)


def test_decode_accepts_arrays_that_are_not_contiguous():
    heatmaps = np.random.default_rng(3).normal(size=(64, 48, 5)).transpose(2, 0, 1)

    np.testing.assert_array_equal(decode(heatmaps)[0], decode(heatmaps.copy())[0])


def test_decode_of_no_maps_gives_no_keypoints():
    keypoints, scores = decode(np.zeros((0, 17, HEIGHT, WIDTH), dtype=np.float32))

    assert keypoints.shape == (0, 17, 2)
    assert scores.shape == (0, 17)


# --- DARK


def gaussian(x: float, y: float, peak: float = 0.8, sigma: float = 2) -> np.ndarray:
    """Return a map with a Gaussian at a sub-pixel position, not cropped to a patch."""
    columns, rows = np.arange(WIDTH) - x, np.arange(HEIGHT)[:, None] - y
    return (peak * np.exp(-(columns**2 + rows**2) / (2 * sigma**2))).astype(np.float32)


def dark_of_one_map(heatmap: np.ndarray, sigma: float = 2) -> np.ndarray:
    """Decode one map as the paper describes: OpenCV's blur of the whole map, then one step of Newton's method."""
    rows, columns = heatmap.shape
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    if heatmap[y, x] <= 0:
        return np.zeros(2)
    if not (2 <= x <= columns - 3 and 2 <= y <= rows - 3):
        return np.array([x, y], dtype=np.float64)
    size = 2 * round(2.5 * sigma) + 1
    blurred = cv2.GaussianBlur(heatmap.astype(np.float64), (size, size), sigma, borderType=cv2.BORDER_CONSTANT)
    log = np.log(np.maximum(blurred, 1e-10))
    gradient = np.array([log[y, x + 1] - log[y, x - 1], log[y + 1, x] - log[y - 1, x]]) / 2
    mixed = (log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]) / 4
    along_x = (log[y, x + 2] - 2 * log[y, x] + log[y, x - 2]) / 4
    along_y = (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x]) / 4
    hessian = np.array([[along_x, mixed], [mixed, along_y]])
    if (np.linalg.eigvalsh(hessian) >= 0).any():
        return np.array([x, y], dtype=np.float64)
    step = -np.linalg.solve(hessian, gradient)
    return np.array([x, y]) + (step if np.abs(step).max() <= 2 else 0)


@settings(max_examples=60)
@given(st.floats(9, WIDTH - 10), st.floats(9, HEIGHT - 10), st.sampled_from([1.0, 1.5, 2.0, 3.0]))
def test_dark_finds_the_center_of_an_exact_gaussian(x, y, sigma):
    keypoint, score = decode(gaussian(x, y, sigma=sigma), "dark", sigma)

    # The blur is cropped at 2.5 sigma, so the blurred map is not exactly a Gaussian.
    assert np.abs(keypoint - [x, y]).max() < 0.02
    assert score == gaussian(x, y, sigma=sigma).max()


def test_dark_finds_a_gaussian_better_than_the_quarter_offset():
    centers = np.random.default_rng(5).uniform(10, 37, (50, 2))
    maps = np.stack([gaussian(x, y) for x, y in centers])

    quarter, dark = (np.abs(decode(maps, method)[0] - centers).mean() for method in ("quarter", "dark"))

    assert dark < 0.005
    assert quarter > 0.1


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 2.0, 2.5]))
def test_dark_of_a_batch_equals_the_steps_of_the_paper_map_by_map(seed, sigma):
    rng = np.random.default_rng(seed)
    centers = rng.uniform((-2, -2), (WIDTH + 2, HEIGHT + 2), (2, 3, 2))  # also on and beyond the borders
    maps = np.stack([[gaussian(x, y, rng.uniform(0.05, 1.2), sigma) for x, y in row] for row in centers])
    maps += rng.normal(0, 0.05, maps.shape).astype(np.float32)
    before = maps.copy()

    keypoints, scores = decode(maps, "dark", sigma)

    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(keypoints[index], dark_of_one_map(maps[index], sigma), atol=2e-3)
        assert scores[index] == maps[index].max()
    np.testing.assert_array_equal(maps, before)


@pytest.mark.parametrize(
    ("x", "y", "moves"),
    [
        (1, 30, False), (2, 30, True), (WIDTH - 3, 30, True), (WIDTH - 2, 30, False), (WIDTH - 1, 30, False),
        (20, 0, False), (20, 1, False), (20, 2, True), (20, HEIGHT - 3, True), (20, HEIGHT - 2, False),
    ],
)  # fmt: skip
def test_dark_does_not_move_a_peak_in_two_rows_or_columns_at_the_border(x, y, moves):
    keypoint, _ = decode(gaussian(x + 0.3, y + 0.3), "dark")

    assert (keypoint != [x, y]).all() == moves
    assert np.abs(keypoint - [x, y]).max() < 1


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_dark_gives_the_origin_for_a_map_without_a_positive_value(level):
    keypoint, score = decode(np.full((HEIGHT, WIDTH), level, dtype=np.float32), "dark")

    np.testing.assert_array_equal(keypoint, [0, 0])
    assert score == level


def test_dark_does_not_move_the_peak_of_a_constant_positive_map():
    keypoint, score = decode(np.full((HEIGHT, WIDTH), 0.5, dtype=np.float32), "dark")

    np.testing.assert_array_equal(keypoint, [0, 0])  # the first of equal values, on the border
    assert score == 0.5


def test_dark_does_not_move_a_peak_where_the_blurred_map_has_a_saddle():
    heatmap = gaussian(20, 25) + gaussian(20, 35)  # two equal bumps; the blur fills the valley between them
    heatmap[30, 20] = 1.0
    heatmap[30] += 0.5  # a ridge along x
    heatmap[30, 20] = heatmap.max() + 0.01

    np.testing.assert_allclose(decode(heatmap, "dark")[0], dark_of_one_map(heatmap), atol=2e-3)


def test_dark_does_not_move_a_peak_to_a_maximum_more_than_two_pixels_away():
    heatmap = np.repeat(gaussian(31, 30)[:, 31:32], WIDTH, axis=1) + 0.001 * np.arange(WIDTH, dtype=np.float32)
    heatmap -= 0.000001 * np.arange(WIDTH, dtype=np.float32) ** 2  # nearly a slope along x
    heatmap[30, 20] = 2.0

    keypoint, _ = decode(heatmap, "dark")
    assert np.abs(keypoint - [20, 30]).max() <= 2
    np.testing.assert_allclose(keypoint, dark_of_one_map(heatmap), atol=2e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("method", ["quarter", "dark"])
def test_a_value_that_is_not_finite_does_not_move_the_keypoint_far_nor_changes_other_maps(bad, far, method):
    maps = np.stack([gaussian(20.3, 30.4), gaussian(22.2, 31.1)])
    row, column = (60, 44) if far else (30, 21)
    maps[0, row, column] = bad

    keypoints, scores = decode(maps, method)

    np.testing.assert_array_equal(keypoints[1], decode(maps[1], method)[0])
    if bad == -np.inf:
        assert np.isfinite(scores).all()
        assert np.abs(keypoints[0] - [20.3, 30.4]).max() < 2
    else:
        assert not np.isfinite(scores[0])  # so that results with this keypoint are refused
        assert np.abs(keypoints[0] - [column, row]).max() <= (0 if method == "dark" else 0.25)


def test_dark_of_no_maps_gives_no_keypoints():
    assert decode(np.zeros((0, 17, HEIGHT, WIDTH), dtype=np.float32), "dark")[0].shape == (0, 17, 2)


@pytest.mark.parametrize("size_wh", [(1, 1), (3, 2), (5, 5)])
def test_dark_accepts_maps_smaller_than_its_blur(size_wh):
    maps = np.random.default_rng(4).uniform(size=(3, size_wh[1], size_wh[0])).astype(np.float32)

    for heatmap, keypoint in zip(maps, decode(maps, "dark")[0], strict=True):
        np.testing.assert_allclose(keypoint, dark_of_one_map(heatmap), atol=2e-3)


def test_an_unknown_method_is_refused():
    with pytest.raises(DataError, match="expected one of quarter, dark, got 'drak'"):
        decode(map_with((3, 3, 1.0)), "drak")


@pytest.mark.parametrize("scale", [1.0, 1e-18])
@pytest.mark.parametrize("position", [(20.5, 30.2), (20.0, 30.5), (20.5, 30.5), (20.0, 30.0)])
def test_rounding_does_not_decide_where_a_keypoint_is(position, scale):
    """Batches of another size change the last bits of the heatmaps: a peak between two pixels jumped half a pixel."""
    exact = gaussian(*position) * scale
    rounded = exact * np.random.default_rng(0).uniform(1 - 1e-6, 1 + 1e-6, (100, *exact.shape))
    keypoints, _ = decode(rounded.astype(np.float32))
    assert np.ptp(keypoints, axis=0).max() < 0.15
    np.testing.assert_allclose(keypoints.mean(axis=0), position, atol=0.3)


def test_of_two_equal_pixels_the_first_is_the_peak_as_in_the_protocol():
    maps = np.zeros((2, 64, 48), np.float32)
    maps[0, 30, 20:22] = maps[1, 30:32, 20] = 1
    np.testing.assert_array_equal(decode(maps)[0], [[20.25, 30], [20, 30.25]])


def test_differences_beyond_rounding_move_the_peak_by_a_quarter_as_in_the_protocol():
    maps = np.zeros((2, 64, 48), np.float32)
    maps[:, 30, 20:22], maps[0, 30, 21], maps[1, 30, 21] = 1, 1 - 2e-5, 0.5
    maps[:, 29, 20], maps[:, 31, 20] = 0.3, 0.3 + 2e-5
    np.testing.assert_array_equal(decode(maps)[0], [[20.25, 30.25]] * 2)
