"""Single-person tracking, with a fake predictor that finds persons inside its boxes."""

import numpy as np
import pytest

from pose.inference.poses import Poses
from pose.inference.search import MARGIN, search_windows
from pose.video.readers import Frame
from pose.video.tracking import SEARCH_INTERVAL, track_person

SKELETON = np.stack(np.meshgrid(np.linspace(0, 1, 3), np.linspace(0, 1, 6)), axis=-1).reshape(-1, 2)[:17]


class Scene:
    """Fake predictor on a frame of 400x120 pixels with given persons.

    In each box it finds the person whose height is the largest fraction of the box height; the fraction is the score.
    ``calls`` records the number of boxes of each call.
    """

    def __init__(self, *persons_xywh):
        self.persons = [np.array(person, dtype=float) for person in persons_xywh]
        self.calls = []

    def predict_batch(self, images, boxes):
        return [self.predict(np.asarray(image_boxes, dtype=float)) for image_boxes in boxes]

    def predict(self, boxes):
        self.calls.append(len(boxes))
        keypoints, scores = np.zeros((len(boxes), 17, 2), np.float32), np.zeros((len(boxes), 17), np.float32)
        for row, box in enumerate(boxes):
            for person in self.persons:
                fraction = person[3] / box[3] if inside(person, box) else 0
                if fraction > scores[row, 0]:
                    keypoints[row], scores[row] = person[:2] + SKELETON * person[2:], fraction
        return Poses(keypoints, scores, boxes.astype(np.float32))


def inside(person, box):
    return (person[:2] >= box[:2]).all() and (person[:2] + person[2:] <= box[:2] + box[2:]).all()


def frame(index=0, time_s=0.0):
    return Frame(index, np.zeros((120, 400, 3), np.uint8), index, "", time_s)


def box_around(person):
    margin = MARGIN * max(person[2:])
    return [person[0] - margin, person[1] - margin, person[2] + 2 * margin, person[3] + 2 * margin]


def track(scene, *frames, search_scene=None):
    return list(track_person(frames, scene, search_scene or scene))


def boxes(results):
    return [result.poses.bboxes_xywh.round(3).tolist() for result in results]


WINDOWS = len(search_windows(400, 120))


def test_a_person_is_found_in_a_search_window():
    scene, search_scene = Scene((300, 20, 30, 80)), Scene((300, 20, 30, 80))

    (result,) = track(scene, frame(), search_scene=search_scene)

    assert boxes([result]) == [[pytest.approx(box_around((300, 20, 30, 80)))]]
    assert search_scene.calls == [WINDOWS, 1, 1]
    assert scene.calls == [1]
    (expected,) = scene.predict(result.poses.bboxes_xywh).scores
    assert result.poses.scores[0].tolist() == expected.tolist()
    assert result.scores.tolist() == pytest.approx([expected.mean()])


def test_tracking_takes_one_forward_pass_per_frame_and_keeps_its_person():
    scene = Scene((300, 20, 30, 80))

    def frames():
        yield frame()
        scene.calls.clear()
        scene.persons.append(np.array([20.0, 5, 40, 110]))
        for index in range(1, 4):
            scene.persons[0][0] -= 4
            yield frame(index, index / 10)

    for index, result in enumerate(track_person(frames(), scene, scene)):
        assert result.frame.index == index
        assert boxes([result]) == [[pytest.approx(box_around(scene.persons[0]))]]
    assert scene.calls == [1, 1, 1]


def test_a_person_that_leaves_is_lost_and_a_new_one_found_at_the_next_search():
    scene = Scene((300, 20, 30, 80))
    newcomer = (40, 20, 30, 80)

    def frames():
        yield frame()
        scene.persons.clear()
        yield frame(1, 0.1)
        scene.persons.append(np.array(newcomer, dtype=float))
        for index in range(2, SEARCH_INTERVAL + 2):
            yield frame(index, index / 10)

    none, one = [], [pytest.approx(box_around(newcomer))]
    assert boxes(track_person(frames(), scene, scene))[1:] == [none] * (SEARCH_INTERVAL - 1) + [one] * 2


def test_a_lost_person_is_searched_in_the_same_frame():
    scene = Scene((300, 20, 30, 80))

    def frames():
        yield frame()
        scene.calls.clear()
        scene.persons[0] = np.array([40.0, 20, 30, 80])
        yield frame(1, 0.1)

    assert boxes(track_person(frames(), scene, scene))[1] == [pytest.approx(box_around((40, 20, 30, 80)))]
    assert scene.calls == [1, WINDOWS, 1, 1, 1]


def test_without_a_person_the_search_runs_at_intervals():
    scene = Scene()
    results = track(scene, *(frame(index, index / 10) for index in range(2 * SEARCH_INTERVAL)))
    assert boxes(results) == [[]] * 2 * SEARCH_INTERVAL
    assert all(result.poses.keypoints.shape == (0, 17, 2) and result.scores.shape == (0,) for result in results)
    assert [count for count in scene.calls if count] == [WINDOWS] * 2


def test_images_of_a_folder_are_searched_independently():
    scene = Scene((300, 20, 30, 80))

    def frames():
        yield frame(0, None)
        scene.persons.append(np.array([20.0, 5, 40, 110]))
        yield frame(1, None)

    assert boxes(track_person(frames(), scene, scene))[1] == [pytest.approx(box_around((20, 5, 40, 110)))]
