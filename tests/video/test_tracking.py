"""A person found and followed without a detector: a model that sees what a window shows stands in for the real one."""

from itertools import pairwise

import numpy as np
import pytest

from pose.inference.predictor import Poses
from pose.video.readers import Frame
from pose.video.tracking import MARGIN, SEARCH_EVERY, keypoint_box, search_windows, track_person

SKELETON = np.stack(np.meshgrid(np.linspace(0, 1, 3), np.linspace(0, 1, 6)), axis=-1).reshape(-1, 2)[:17]


class Scene:
    """A frame of 400x120 pixels with people; a look finds the one that fills its box best, as well as it does so."""

    def __init__(self, *people_xywh):
        self.people = [np.array(person, dtype=float) for person in people_xywh]
        self.looks = []

    def __call__(self, image, boxes):
        boxes = np.asarray(boxes, dtype=float)
        self.looks.append(len(boxes))
        keypoints, scores = np.zeros((len(boxes), 17, 2), np.float32), np.zeros((len(boxes), 17), np.float32)
        for row, box in enumerate(boxes):
            for person in self.people:
                share = person[3] / box[3] if inside(person, box) else 0
                if share > scores[row, 0]:
                    keypoints[row], scores[row] = person[:2] + SKELETON * person[2:], share
        return Poses(keypoints, scores, boxes.astype(np.float32))


def inside(person, box):
    return (person[:2] >= box[:2]).all() and (person[:2] + person[2:] <= box[:2] + box[2:]).all()


def frame(index=0, time_s=0.0):
    return Frame(index, np.zeros((120, 400, 3), np.uint8), index, "", time_s)


def around(person):
    margin = MARGIN * max(person[2:])
    return [person[0] - margin, person[1] - margin, person[2] + 2 * margin, person[3] + 2 * margin]


def follow(scene, *frames, look=None):
    return list(track_person(frames, scene, look or scene))


def boxes(found):
    return [result.poses.bboxes_xywh.round(3).tolist() for result in found]


WINDOWS = len(search_windows(400, 120))


def test_a_person_is_found_in_a_window_and_boxed():
    predict, look = Scene((300, 20, 30, 80)), Scene((300, 20, 30, 80))

    (found,) = follow(predict, frame(), look=look)

    assert boxes([found]) == [[pytest.approx(around((300, 20, 30, 80)))]]
    assert look.looks == [WINDOWS, 1, 1]
    assert predict.looks == [1]
    (expected,) = predict(None, found.poses.bboxes_xywh).scores
    assert found.poses.scores[0].tolist() == expected.tolist()
    assert found.scores.tolist() == pytest.approx([expected.mean()])


def test_a_person_is_followed_with_one_look_a_frame_and_kept_beside_a_larger_one():
    scene = Scene((300, 20, 30, 80))

    def frames():
        yield frame()
        scene.looks.clear()
        scene.people.append(np.array([20.0, 5, 40, 110]))
        for index in range(1, 4):
            scene.people[0][0] -= 4
            yield frame(index, index / 10)

    for index, found in enumerate(track_person(frames(), scene, scene)):
        assert found.frame.index == index
        assert boxes([found]) == [[pytest.approx(around(scene.people[0]))]]
    assert scene.looks == [1, 1, 1]


def test_who_leaves_is_lost_at_once_and_who_comes_is_found_at_the_next_search():
    scene = Scene((300, 20, 30, 80))
    newcomer = (40, 20, 30, 80)

    def frames():
        yield frame()
        scene.people.clear()
        yield frame(1, 0.1)
        scene.people.append(np.array(newcomer, dtype=float))
        for index in range(2, SEARCH_EVERY + 2):
            yield frame(index, index / 10)

    nobody, found = [], [pytest.approx(around(newcomer))]
    assert boxes(track_person(frames(), scene, scene))[1:] == [nobody] * (SEARCH_EVERY - 1) + [found] * 2


def test_who_is_lost_is_looked_for_everywhere_in_the_same_frame():
    scene = Scene((300, 20, 30, 80))

    def frames():
        yield frame()
        scene.looks.clear()
        scene.people[0] = np.array([40.0, 20, 30, 80])
        yield frame(1, 0.1)

    assert boxes(track_person(frames(), scene, scene))[1] == [pytest.approx(around((40, 20, 30, 80)))]
    assert scene.looks == [1, WINDOWS, 1, 1, 1]


def test_where_nobody_is_the_windows_are_searched_every_few_frames():
    scene = Scene()
    found = follow(scene, *(frame(index, index / 10) for index in range(2 * SEARCH_EVERY)))
    assert boxes(found) == [[]] * 2 * SEARCH_EVERY
    assert all(result.poses.keypoints.shape == (0, 17, 2) and result.scores.shape == (0,) for result in found)
    assert [looks for looks in scene.looks if looks] == [WINDOWS] * 2


def test_images_of_a_folder_have_nothing_to_do_with_each_other():
    scene = Scene((300, 20, 30, 80))

    def frames():
        yield frame(0, None)
        scene.people.append(np.array([20.0, 5, 40, 110]))
        yield frame(1, None)

    assert boxes(track_person(frames(), scene, scene))[1] == [pytest.approx(around((20, 5, 40, 110)))]


@pytest.mark.parametrize(("width", "height"), [(400, 120), (120, 400), (90, 120), (1920, 1080), (5, 3)])
def test_windows_cover_the_frame_and_overlap_by_half(width, height):
    whole, *windows = search_windows(width, height)
    assert whole.tolist() == [0, 0, width, height]
    assert windows[0][:2].tolist() == [0, 0]
    assert (windows[-1][:2] + windows[-1][2:]).tolist() == pytest.approx([width, height])
    for one, other in pairwise(windows):
        assert one[2] / one[3] == pytest.approx(3 / 4)
        assert (other[:2] - one[:2] <= one[2:] / 2 + 1e-9).all()


def test_too_few_keypoints_make_no_box():
    scores = np.zeros(17, np.float32)
    scores[:4] = 1
    assert keypoint_box(SKELETON.astype(np.float32), scores) is None
    scores[16] = 1
    box = keypoint_box(SKELETON.astype(np.float32), scores)
    assert box is not None
    assert box.tolist() == pytest.approx([-0.15, -0.15, 1.3, 1.3])
