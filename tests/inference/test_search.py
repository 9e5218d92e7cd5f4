"""Search for one person: windows, and boxes around keypoints. tests/video/test_tracking.py has the search itself."""

from itertools import pairwise

import numpy as np
import pytest

from pose.inference.search import MAX_WINDOWS, keypoint_box, search_windows

SKELETON = np.stack(np.meshgrid(np.linspace(0, 1, 3), np.linspace(0, 1, 6)), axis=-1).reshape(-1, 2)[:17]


@pytest.mark.parametrize(("width", "height"), [(400, 120), (120, 400), (90, 120), (1920, 1080), (5, 3)])
def test_search_windows_cover_the_frame_and_overlap_by_half(width, height):
    whole, *windows = search_windows(width, height)
    assert whole.tolist() == [0, 0, width, height]
    assert windows[0][:2].tolist() == [0, 0]
    assert (windows[-1][:2] + windows[-1][2:]).tolist() == pytest.approx([width, height])
    for window, following in pairwise(windows):
        assert window[2] / window[3] == pytest.approx(3 / 4)
        assert (following[:2] - window[:2] <= window[2:] / 2 + 1e-9).all()


@pytest.mark.parametrize("size", [(1, 30_000), (30_000, 1), (50, 60_000), (1_000_000, 3)])
def test_the_number_of_search_windows_is_bounded_and_they_cover_the_longest_images(size):
    _, *windows = search_windows(*size)
    assert len(windows) <= MAX_WINDOWS + 1
    long = int(size[1] > size[0])
    starts = sorted(window[long] for window in windows)
    assert starts[0] == 0
    assert starts[-1] + windows[0][2 + long] == pytest.approx(max(size))
    assert max(after - before for before, after in pairwise(starts)) <= windows[0][2 + long] / 2 + 1e-6
    short = 1 - long
    assert windows[0][short] + windows[0][2 + short] / 2 == pytest.approx(min(size) / 2)  # centered


def test_too_few_visible_keypoints_give_no_box():
    scores = np.zeros(17, np.float32)
    scores[:4] = 1
    assert keypoint_box(SKELETON.astype(np.float32), scores) is None
    scores[16] = 1
    box = keypoint_box(SKELETON.astype(np.float32), scores)
    assert box is not None
    assert box.tolist() == pytest.approx([-0.15, -0.15, 1.3, 1.3])


@pytest.mark.parametrize(("keypoints", "needed"), [(2, 2), (3, 2), (4, 2), (5, 3), (8, 4), (17, 5)])
def test_small_keypoint_sets_need_half_of_their_keypoints_for_a_box(keypoints, needed):
    points = np.arange(2 * keypoints, dtype=np.float32).reshape(-1, 2)
    scores = np.zeros(keypoints, np.float32)
    scores[: needed - 1] = 1
    assert keypoint_box(points, scores) is None
    scores[:needed] = 1
    assert keypoint_box(points, scores) is not None


@pytest.mark.parametrize("extent", [0, 1e-6, 0.4])
def test_keypoints_in_one_place_give_no_box(extent):
    points = np.full((3, 2), 7, np.float32) + np.linspace(0, extent, 3, dtype=np.float32)[:, None]
    assert keypoint_box(points, np.ones(3, np.float32)) is None
