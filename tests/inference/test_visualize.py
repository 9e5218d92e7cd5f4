"""Drawing: positions, colors, order, labels, and sheets."""

from dataclasses import replace

import numpy as np
import pytest

from pose.inference.poses import Poses
from pose.inference.visualize import (
    LEFT,
    MIDDLE,
    PERSONS,
    RIGHT,
    draw_label,
    draw_poses,
    prediction_sheet,
    side_colors,
    tile_images,
)
from pose.skeleton import COCO, make_skeleton

SKELETON = make_skeleton(["left_hand", "right_hand", "head"], [(0, 2), (1, 2)])


def gray(width: int = 200, height: int = 160) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def stick_figure(scores=(1.0, 1.0, 1.0), offset=(0, 0), box=(20, 20, 120, 120)) -> Poses:
    keypoints = np.array([[[40, 40], [120, 40], [80, 120]]], np.float32) + np.float32(offset)
    return Poses(keypoints, np.array([scores], np.float32), np.array([box], np.float32))


def test_an_image_without_persons_is_returned_as_an_unchanged_copy():
    image = gray()
    no_poses = Poses(np.zeros((0, 3, 2)), np.zeros((0, 3)), np.zeros((0, 4)))
    drawn = draw_poses(image, no_poses, SKELETON)
    assert drawn is not image
    np.testing.assert_array_equal(drawn, image)


def test_the_input_image_is_not_modified():
    image = gray()
    draw_poses(image, stick_figure(), SKELETON)
    np.testing.assert_array_equal(image, gray())


def test_keypoints_and_limbs_have_the_color_of_their_side():
    drawn = draw_poses(gray(), stick_figure(), SKELETON, opacity=1)
    assert tuple(drawn[40, 40]) == LEFT
    assert tuple(drawn[40, 120]) == RIGHT
    assert tuple(drawn[120, 80]) == MIDDLE
    assert tuple(drawn[80, 60]) == LEFT  # half way from the left hand to the head
    assert tuple(drawn[80, 100]) == RIGHT


def test_persons_have_colors_by_their_numbers_and_none_before_they_have_one():
    for number, color in ((1, PERSONS[1]), (len(PERSONS) + 1, PERSONS[1]), (0, MIDDLE)):
        drawn = draw_poses(gray(), replace(stick_figure(), ids=np.array([number])), SKELETON, opacity=1, color="person")
        assert [tuple(drawn[y, x]) for x, y in ((40, 40), (120, 40), (80, 120))] == [color] * 3


def test_the_number_of_a_person_is_printed():
    by_number = [draw_poses(gray(), replace(stick_figure(), ids=np.array([n])), SKELETON) for n in (0, 1, 2)]
    np.testing.assert_array_equal(by_number[0], draw_poses(gray(), stick_figure(), SKELETON))
    assert (by_number[1] != by_number[0]).any()
    assert (by_number[2] != by_number[1]).any()


def test_limbs_between_left_and_right_have_the_middle_color():
    hips = make_skeleton(["left_hip", "right_hip"], [(0, 1)])
    poses = Poses(np.array([[[40, 80], [140, 80.0]]]), np.ones((1, 2)), np.array([[10, 10, 150, 140.0]]))
    assert tuple(draw_poses(gray(), poses, hips, opacity=1)[80, 90]) == MIDDLE


def test_side_colors_of_coco_follow_the_keypoint_names():
    for name, color in zip(COCO.names, side_colors(COCO), strict=True):
        assert color == (LEFT if "left" in name else RIGHT if "right" in name else MIDDLE)


def test_keypoints_below_the_threshold_and_their_limbs_are_not_drawn():
    drawn = draw_poses(gray(), stick_figure(scores=(0.29, 1, 0.31)), SKELETON, opacity=1, boxes=False)
    assert tuple(drawn[40, 40]) == (90, 90, 90)
    assert tuple(drawn[80, 60]) == (90, 90, 90)
    assert tuple(drawn[120, 80]) == MIDDLE
    np.testing.assert_array_equal(draw_poses(gray(), stick_figure(scores=(0, 0, 0)), SKELETON, boxes=False), gray())


@pytest.mark.parametrize("threshold", [[0.1, 0.2], "0.3", None])
def test_a_threshold_that_is_no_number_is_a_type_error(threshold):
    with pytest.raises(TypeError, match="keypoint_threshold: expected a number"):
        draw_poses(gray(), stick_figure(), SKELETON, keypoint_threshold=threshold)


def test_opacity_blends_the_drawing_with_the_image():
    drawn = draw_poses(gray(), stick_figure(), SKELETON, opacity=0.5, boxes=False)
    np.testing.assert_allclose(drawn[40, 40], (np.array(LEFT) + 90) / 2, atol=1)


def test_limb_width_scales_with_the_person():
    small = stick_figure()
    large = Poses(small.keypoints * 4, small.scores, small.bboxes_xywh * 4)
    image = gray(800, 640)
    widths = [
        (draw_poses(image, poses, SKELETON, opacity=1, boxes=False)[row] != 90).any(axis=1).sum()
        for poses, row in ((small, 80), (large, 320))
    ]
    assert widths[1] > 1.5 * widths[0]


@pytest.mark.parametrize("box", [(-50, -60, 500, 500), (190, 150, 40, 40), (0, 0, 200, 160), (-30, 155, 20, 3)])
def test_score_labels_stay_inside_the_image(box):
    drawn = draw_poses(gray(), stick_figure(scores=(0, 0, 0), box=box), SKELETON, scores=[0.87], opacity=1)
    plate = (drawn == (35, 30, 30)).all(axis=2)
    y, x = np.nonzero(plate)
    full = draw_poses(gray(), stick_figure(scores=(0, 0, 0), box=(60, 80, 50, 50)), SKELETON, scores=[0.87], opacity=1)
    full_y, full_x = np.nonzero((full == (35, 30, 30)).all(axis=2))
    assert (np.ptp(x), np.ptp(y)) == (np.ptp(full_x), np.ptp(full_y))


def test_a_score_above_1_is_printed_as_1():
    drawn = [draw_poses(gray(), stick_figure(scores=(0, 0, 0)), SKELETON, scores=[score]) for score in (1.03, 1, 0.97)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[1] != drawn[2]).any()


def test_a_label_larger_than_the_image_is_drawn_without_error():
    draw_label(np.zeros((4, 5, 3), np.uint8), "0.87", (0, 0), 10)


@pytest.mark.parametrize("point", [np.nan, np.inf, -1e9, 1e9, -40])
def test_keypoints_outside_the_image_or_not_finite_do_not_affect_others(point):
    poses = stick_figure()
    poses.keypoints[0, 0] = point
    drawn = draw_poses(gray(), poses, SKELETON, opacity=1)
    assert tuple(drawn[40, 120]) == RIGHT


def test_small_persons_are_drawn_over_large_ones():
    large, small = stick_figure(box=(0, 0, 150, 150)), stick_figure(box=(30, 30, 100, 100))
    small.keypoints[0, :2] = large.keypoints[0, 1::-1]  # the small one faces the other way: left hand on right hand
    for order in ((large, small), (small, large)):
        both = Poses(*(np.concatenate([getattr(p, f) for p in order]) for f in ("keypoints", "scores", "bboxes_xywh")))
        assert tuple(draw_poses(gray(), both, SKELETON, opacity=1, boxes=False)[40, 120]) == LEFT


def test_sheet_draws_each_pose_on_its_image():
    poses = stick_figure()
    sheet = prediction_sheet([gray(), gray(100, 160)], [poses, poses], SKELETON, 2, cell_wh=(100, 80))
    assert sheet.shape == (80 + 12, 2 * 100 + 18, 3)
    # The first image fills its cell at half size: its left hand (40, 40) is at (20, 20) of the cell.
    np.testing.assert_allclose(sheet[6 + 20, 6 + 20], LEFT, atol=30)
    # The second is 50 wide, in the middle: 25 to the right in a cell that starts at 112.
    np.testing.assert_allclose(sheet[6 + 20, 112 + 25 + 20], LEFT, atol=30)


def test_sheet_shows_the_ground_truth_left_of_the_prediction():
    predicted = stick_figure(offset=(0, 30))
    sheet = prediction_sheet([gray()], [predicted], SKELETON, 1, truths=[stick_figure()], cell_wh=(200, 160))
    np.testing.assert_allclose(sheet[6 + 40, 6 + 40], LEFT, atol=30)
    np.testing.assert_allclose(sheet[6 + 70, 206 + 40], LEFT, atol=30)


def test_tiles_fill_rows_and_leave_the_remaining_cells_dark():
    sheet = tile_images([np.full((10, 8, 3), value, np.uint8) for value in (100, 150, 200)], 2, gap=1)
    assert sheet.shape == (23, 19, 3)
    assert [sheet[1, 1, 0], sheet[1, 10, 0], sheet[12, 1, 0]] == [100, 150, 200]
    assert sheet[12:22, 10:18].max() < 60
