"""Smoothing: equality with the One Euro filter of the paper, and matching of persons across frames."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pose.inference.poses import Poses
from pose.skeleton import COCO
from pose.video.pipeline import FramePoses
from pose.video.readers import Frame
from pose.video.smoothing import CUTOFF_HZ, CUTOFF_HZ_PER_SPEED, SPEED_CUTOFF_HZ, smooth_poses

BOX = np.array([100, 50, 60, 240.0])
SIZE = 120.0
"""Square root of the box area."""
BODY = np.random.default_rng(1).uniform(0, 1, (17, 2)) * BOX[2:] + BOX[:2]
FPS = 25.0


def result(index, *persons, scores=1.0, time_s=0.0):
    """Frame with persons, each given by a shift (x, y) of the body, or (17, 2) of each keypoint."""
    shifts = np.array([np.broadcast_to(person, (17, 2)) for person in persons]).reshape(-1, 17, 2)
    boxes = np.array([[*(BOX[:2] + shift.mean(axis=0)), *BOX[2:]] for shift in shifts]).reshape(-1, 4)
    scores = np.broadcast_to(scores, (len(shifts), 17)).astype(np.float32)
    frame = Frame(index, np.zeros((4, 4, 3), np.uint8), index, "", None if time_s is None else time_s + index / FPS)
    poses = Poses((BODY + shifts).astype(np.float32), scores, boxes.astype(np.float32))
    return FramePoses(frame, poses, poses.person_scores)


def smooth(*results):
    return list(smooth_poses(results, COCO.sigmas))


def shifts(results, person=0):
    """Keypoint shifts (frames, 17, 2) of a person."""
    return np.array([frame_poses.poses.keypoints[person] - BODY for frame_poses in results])


def one_euro(points, times):
    """The paper's algorithm for one point (x, y), with the cutoff from the speed in both coordinates."""

    def alpha(cutoff, elapsed):
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau / elapsed)

    (x, y), (speed_x, speed_y), smoothed = points[0], (0.0, 0.0), [points[0]]
    for (new_x, new_y), elapsed in zip(points[1:], np.diff(times), strict=True):
        a = alpha(SPEED_CUTOFF_HZ, elapsed)
        speed_x = a * (new_x - x) / elapsed + (1 - a) * speed_x
        speed_y = a * (new_y - y) / elapsed + (1 - a) * speed_y
        a = alpha(CUTOFF_HZ + CUTOFF_HZ_PER_SPEED * math.hypot(speed_x, speed_y) / SIZE, elapsed)
        x, y = a * new_x + (1 - a) * x, a * new_y + (1 - a) * y
        smoothed.append((x, y))
    return smoothed


def test_each_keypoint_is_filtered_as_in_the_paper():
    moves = np.cumsum(np.random.default_rng(0).normal(0, 3, (20, 17, 2)), axis=0)

    smoothed = shifts(smooth(*(result(index, move) for index, move in enumerate(moves))))

    for keypoint in (0, 9, 16):
        expected = one_euro(moves[:, keypoint], np.arange(20) / FPS)
        np.testing.assert_allclose(smoothed[:, keypoint], expected, atol=1e-3)


def test_jitter_at_rest_is_reduced_and_lag_in_motion_is_small():
    rng = np.random.default_rng(0)
    still = rng.normal(0, 2, (50, 17, 2))
    running = np.arange(50)[:, None, None] * [2 * SIZE / FPS, 0]

    steady = shifts(smooth(*(result(index, shift) for index, shift in enumerate(still))))
    lag = running - shifts(smooth(*(result(index, shift) for index, shift in enumerate(running))))

    assert np.diff(steady[10:], axis=0).std() < 0.4 * np.diff(still, axis=0).std()
    assert -1e-3 < lag.min() <= lag[20:].max() < 0.1 * SIZE


def test_persons_are_matched_across_frames_in_any_order():
    near, far = np.array([0.0, 0]), np.array([300.0, 0])
    first, second = smooth(result(0, near, far), result(1, far + 4, near - 4))

    (to_far,), (to_near,) = shifts([second]) - far, shifts([second], 1) - near
    assert 0 < to_far.min() <= to_far.max() < 4
    assert -4 < to_near.min() <= to_near.max() < 0
    np.testing.assert_array_equal(first.poses.keypoints, result(0, near, far).poses.keypoints)


def test_a_person_is_matched_to_at_most_one_person():
    _, second = smooth(result(0, (0, 0)), result(1, (3, 0), (6, 0)))

    assert np.ptp(shifts([second])[..., 0]) < 1e-3
    assert 0 < shifts([second])[0, 0, 0] < 3
    np.testing.assert_allclose(shifts([second], 1), np.broadcast_to([6, 0], (1, 17, 2)), atol=1e-4)


@pytest.mark.parametrize("between", [(), ((500, 0),)], ids=["no_person", "a_distant_person"])
def test_a_person_that_was_absent_is_not_smoothed(between):
    *_, last = smooth(result(0, (0, 0)), result(1, *between), result(2, (5, 0)))
    np.testing.assert_allclose(shifts([last]), np.broadcast_to([5, 0], (1, 17, 2)), atol=1e-4)


def test_a_keypoint_that_was_not_visible_is_not_smoothed():
    scores = np.ones(17)
    scores[[3, 9]] = 0.1
    _, second = smooth(result(0, (0, 0), scores=scores), result(1, (5, 0)))

    unsmoothed = np.isclose(shifts([second])[0, :, 0], 5, atol=1e-4)
    assert np.flatnonzero(unsmoothed).tolist() == [3, 9]


def test_boxes_scores_and_frames_are_unchanged():
    inputs = [result(index, (index, 0), (300, index), scores=0.7) for index in range(4)]
    for before, after in zip(inputs, smooth(*inputs), strict=True):
        assert after.frame is before.frame
        np.testing.assert_array_equal(after.scores, before.scores)
        np.testing.assert_array_equal(after.poses.scores, before.poses.scores)
        np.testing.assert_array_equal(after.poses.bboxes_xywh, before.poses.bboxes_xywh)


def test_images_and_frames_out_of_order_are_not_smoothed():
    for inputs in (
        [result(index, (4 * index, 0), time_s=None) for index in range(3)],
        [result(0, (0, 0), time_s=1), result(1, (4, 0), time_s=0)],
    ):
        np.testing.assert_array_equal(shifts(smooth(*inputs)), shifts(inputs))


def test_persons_with_numbers_are_matched_by_them():
    """Two people exchange their places within a frame; by OKS each would be smoothed with the other."""
    near, far = np.array([0.0, 0]), np.array([6.0, 0])
    first, second = result(0, near, far), result(1, far, near)
    first, second = (r._replace(poses=replace(r.poses, ids=np.array([1, 2]))) for r in (first, second))
    _, smoothed = smooth(first, second)
    assert 0 < shifts([smoothed])[..., 0].max() < 6
    assert 0 < shifts([smoothed], 1)[..., 0].min() < 6


def test_persons_without_a_number_are_not_smoothed():
    numbered = [r._replace(poses=replace(r.poses, ids=np.array([0]))) for r in (result(0, (0, 0)), result(1, (5, 0)))]
    np.testing.assert_allclose(shifts(smooth(*numbered)[1:]), np.broadcast_to([5, 0], (1, 17, 2)), atol=1e-4)
