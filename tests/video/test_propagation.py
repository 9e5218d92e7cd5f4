"""Detection in every Nth frame, with a fake predictor that finds the people whose centers are in its boxes."""

from functools import partial

import numpy as np
import pytest

from pose.inference.detectors import Detections
from pose.inference.poses import Poses
from pose.skeleton import COCO
from pose.video.propagation import estimate_between_detections
from pose.video.readers import Frame

BODY = np.random.default_rng(0).uniform(0, 1, (17, 2)) * (40, 120)
"""Keypoints relative to the top left of a person."""


class Scene:
    """People at the positions ``people[frame]``: detector and predictor of the same scene.

    ``detected`` has the indices of the frames in which the detector ran, ``score`` is that of all keypoints.
    """

    skeleton = COCO

    def __init__(self, people, score=0.8):
        self.people, self.detected, self.score = people, [], score

    def frames(self, time_step_s=0.1):
        for index in range(len(self.people)):
            time_s = None if time_step_s is None else index * time_step_s
            yield Frame(index, np.full((4, 4, 3), index, np.uint8), index, "", time_s)

    def detect(self, frames):
        (frame,) = frames
        self.detected.append(frame.index)
        boxes = np.array([[*corner, 40, 120] for corner in self.people[frame.index]], dtype=float).reshape(-1, 4)
        return [Detections(boxes, np.full(len(boxes), 0.5))]

    def predict_batch(self, images, boxes):
        (image,), (rows,) = images, boxes
        corners = np.array(self.people[int(image[0, 0, 0])], dtype=float).reshape(-1, 2)
        rows = np.asarray(rows, dtype=float).reshape(-1, 4)
        keypoints, scores = np.zeros((len(rows), 17, 2), np.float32), np.zeros((len(rows), 17), np.float32)
        for row, box in enumerate(rows):
            distance = np.abs(corners + np.array([20, 60]) - box[:2] - box[2:] / 2).sum(axis=1)
            if len(corners) and distance.min() < 60:
                keypoints[row], scores[row] = corners[distance.argmin()] + BODY, self.score
        return [Poses(keypoints, scores, rows.astype(np.float32))]

    def run(self, detect_every, **options):
        estimate = partial(estimate_between_detections, detect=self.detect, predictor=self, detect_every=detect_every)
        return list(estimate(self.frames(**options)))


def positions(results):
    return [[tuple(np.round(person[0] - BODY[0]).tolist()) for person in result.poses.keypoints] for result in results]


@pytest.mark.parametrize("detect_every", [1, 2, 3, 100])
def test_people_are_followed_between_detections(detect_every):
    people = [[(10 + 8 * i, 20), (400 - 5 * i, 50 + i)] for i in range(10)]
    scene = Scene(people)
    results = scene.run(detect_every)
    assert scene.detected == list(range(0, 10, detect_every))
    assert positions(results) == people
    assert [result.frame.index for result in results] == list(range(10))
    assert all(result.scores.tolist() == pytest.approx([0.4, 0.4]) for result in results)  # box 0.5 times keypoints 0.8


def test_boxes_in_between_enclose_the_keypoints_of_the_frame_before():
    scene = Scene([[(10, 10)], [(14, 10)]])
    _, second = scene.run(2)
    x, y, w, h = second.poses.bboxes_xywh[0]
    low, high = BODY.min(axis=0) + 10, BODY.max(axis=0) + 10
    assert (np.array([x, y]) < low).all()
    assert (np.array([x + w, y + h]) > high).all()


def test_who_enters_is_found_at_the_next_detection_and_who_leaves_is_dropped_at_once():
    stays, leaves, enters = (10, 20), (200, 20), (400, 20)
    scene = Scene([[stays, leaves]] * 2 + [[stays, enters]] * 4)
    assert positions(scene.run(4)) == [[stays, leaves]] * 2 + [[stays]] * 2 + [[stays, enters]] * 2


def test_two_boxes_that_end_on_one_person_give_one_person():
    scene = Scene([[(10, 20), (40, 20)]] + [[(30, 20)]] * 2)
    assert positions(scene.run(3)) == [[(10, 20), (40, 20)]] + [[(30, 20)]] * 2


def test_people_who_are_hardly_visible_are_not_followed():
    scene = Scene([[(10, 20)]] * 4, score=0.2)
    assert [len(result.poses) for result in scene.run(3)] == [1, 0, 0, 1]


def test_frames_without_people_are_passed_on():
    scene = Scene([[]] * 4)
    assert [len(result.poses) for result in scene.run(2)] == [0] * 4
    assert scene.detected == [0, 2]


def test_the_detector_runs_in_every_image_of_a_folder():
    scene = Scene([[(10, 20)]] * 4)
    scene.run(3, time_step_s=None)
    assert scene.detected == [0, 1, 2, 3]
