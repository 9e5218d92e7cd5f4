"""Identities: synthetic people with known numbers, who cross, leave, enter, are missed or detected twice."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from pose.inference.poses import Poses
from pose.skeleton import COCO
from pose.tools.benchmarks._clip import CLIP_FPS
from pose.video.identities import MAX_LOST_S, MIN_FRAMES, IdentityTracker, assign_ids
from pose.video.pipeline import FramePoses
from pose.video.readers import Frame

FPS = 25.0
SIZE_WH = np.array([60.0, 180.0])
BODIES = np.random.default_rng(1).uniform(0.1, 0.9, (6, 17, 2)) * SIZE_WH
"""Poses of six people, relative to the top left of their boxes."""
LOST_FRAMES = round(MAX_LOST_S * FPS)


def poses_of(*people, noise=0.0, rng=None):
    """Poses of people, each given by its body 0 to 5 and the top left of its box."""
    boxes = np.array([[*corner, *SIZE_WH] for _, corner in people]).reshape(-1, 4)
    keypoints = np.array([BODIES[body] + np.asarray(corner) for body, corner in people]).reshape(-1, 17, 2)
    if noise:
        boxes, keypoints = boxes + rng.normal(0, noise, boxes.shape), keypoints + rng.normal(0, noise, keypoints.shape)
    scores = np.full((len(people), 17), 0.8, np.float32)
    return Poses(keypoints.astype(np.float32), scores, boxes.astype(np.float32))


def frame_of(index, time_s):
    return Frame(index, np.zeros((4, 4, 3), np.uint8), index, "", time_s)


def ids_of(frames, fps=FPS):
    """Ids of the persons of each frame, given by a list of people."""
    results = (
        FramePoses(frame_of(index, None if fps is None else index / fps), poses, poses.person_scores)
        for index, poses in enumerate(poses_of(*people) for people in frames)
    )
    return [None if r.poses.ids is None else r.poses.ids.tolist() for r in assign_ids(results, COCO.sigmas)]


def test_people_keep_their_numbers_in_any_order_of_detection():
    frames = [[(0, (4 * i, 0)), (1, (300 - 4 * i, 20)), (2, (600, i))] for i in range(30)]
    orders = [np.random.default_rng(i).permutation(3) for i in range(30)]
    shuffled = [[people[person] for person in order] for people, order in zip(frames, orders, strict=True)]
    numbers = dict(zip(orders[0], ids_of(shuffled)[0], strict=True))
    assert sorted(numbers.values()) == [1, 2, 3]
    assert ids_of(shuffled) == [[numbers[body] for body in order] for order in orders]


@pytest.mark.parametrize("speed", [2, 6, 12])
def test_crossing_people_keep_their_numbers(speed):
    steps = range(400 // speed)
    assert ids_of([[(0, (speed * i, 0)), (1, (400 - speed * i, 5))] for i in steps]) == [[1, 2]] * len(steps)


@pytest.mark.parametrize("speed", [3, 6, 12])
def test_a_person_hidden_while_crossing_gets_its_number_back(speed):
    frames, expected = [], []
    for i in range(400 // speed):
        front, behind = (0, (speed * i, 0)), (1, (400 - speed * i, 5))
        hidden = abs(front[1][0] - behind[1][0]) < 0.8 * SIZE_WH[0]
        frames.append([front] if hidden else [front, behind])
        expected.append([1] if hidden else [1, 2])
    assert [1] in expected
    assert ids_of(frames) == expected


@pytest.mark.parametrize("missed", [1, 5, LOST_FRAMES - 1])
def test_a_walking_person_who_is_missed_for_some_frames_keeps_its_number(missed):
    frames = [[(0, (3 * i, 0)), (1, (500, 0))] for i in range(60)]
    for index in range(20, 20 + missed):
        frames[index] = frames[index][1:]
    ids = ids_of(frames)
    assert {tuple(row) for row in ids} == {(1, 2), (2,)}
    assert [len(row) for row in ids] == [len(people) for people in frames]


def test_a_person_who_is_missed_for_longer_gets_a_new_number():
    frames = [[(0, (100, 0))]] * 5 + [[]] * (LOST_FRAMES + 1) + [[(0, (100, 0))]] * 5
    assert ids_of(frames) == [[1]] * 5 + [[]] * (LOST_FRAMES + 1) + [[2]] * 5


def test_people_keep_their_numbers_at_a_low_frame_rate():
    assert ids_of([[(0, (100 + 5 * i, 0)), (1, (300, 0))] for i in range(5)], fps=0.2) == [[1, 2]] * 5


def test_one_leaves_and_another_enters_elsewhere_with_a_new_number():
    frames = [[(0, (500 + 5 * i, 0))] for i in range(20)] + [[(1, (5 * i, 0))] for i in range(20)]
    assert ids_of(frames) == [[1]] * 20 + [[2]] * 20


def test_one_leaves_and_another_enters_at_the_same_side_with_a_new_number():
    leaving = [[(0, (500 + 6 * i, 0))] for i in range(20)]
    entering = [[(1, (614 - 6 * i, 0))] for i in range(20)]
    assert ids_of([*leaving, *[[]] * 12, *entering]) == [[1]] * 20 + [[]] * 12 + [[2]] * 20


def test_a_lost_person_does_not_take_the_number_of_one_in_sight():
    """One of two neighbours disappears. Who is still there keeps its number, and so does the other who comes back."""
    frames = [[(0, (100, 0)), (1, (130, 0))]] * 10 + [[(0, (100, 0))]] * 10 + [[(1, (130, 0)), (0, (100, 0))]] * 5
    assert ids_of(frames) == [[1, 2]] * 10 + [[1]] * 10 + [[2, 1]] * 5


def test_a_missed_person_does_not_take_the_track_of_one_who_is_missed_in_the_next_frame():
    frames = [[(0, (100, 0)), (1, (130, 0))]] * 10
    frames[5], frames[6] = [(0, (100, 0))], [(1, (130, 0))]
    assert ids_of(frames) == [[1, 2]] * 5 + [[1], [2]] + [[1, 2]] * 3


def test_a_second_detection_of_a_person_gets_no_number():
    frames = [[(0, (100, 0))], *[[(0, (100 + i, 0)), (0, (104 + i, 3))] for i in range(10)]]
    ids = ids_of(frames)
    assert {number for row in ids for number in row} == {0, 1}
    assert all(row.count(1) == 1 for row in ids)


def test_a_false_detection_gets_no_number_and_takes_none():
    frames = [[(0, (100, 0))] for _ in range(20)]
    for index in (4, 5):
        frames[index] = [*frames[index], (1, (700, 300))]
    frames[12:] = [[*people, (2, (400, 0))] for people in frames[12:]]
    assert ids_of(frames) == [[1]] * 4 + [[1, 0]] * 2 + [[1]] * 6 + [[1, 2]] * 8


@pytest.mark.parametrize("count", range(1, MIN_FRAMES))
def test_in_a_video_of_few_frames_everybody_has_a_number(count):
    assert ids_of([[(0, (100, 0)), (1, (300, 0))]] * count) == [[1, 2]] * count


def test_images_have_no_numbers():
    assert ids_of([[(0, (100, 0))]] * 3, fps=None) == [None] * 3


def test_a_time_that_goes_back_starts_anew():
    tracker = IdentityTracker(COCO.sigmas)
    for time_s in (0.0, 0.1, 0.2, 0.3, 0.0, 0.1, 0.2):
        tracker.update(poses_of((0, (100, 0))), time_s)
    assert tracker.count == 2


def test_frames_and_poses_are_passed_on_unchanged():
    inputs = [FramePoses(frame_of(i, i / FPS), poses_of((0, (100, 0))), np.array([0.4])) for i in range(7)]
    outputs = list(assign_ids(iter(inputs), COCO.sigmas))
    assert [r.frame for r in outputs] == [r.frame for r in inputs]
    assert all(after.poses.keypoints is before.poses.keypoints for before, after in zip(inputs, outputs, strict=True))


def test_at_most_min_frames_frames_are_held_back():
    taken = 0

    def frames():
        nonlocal taken
        for taken in range(1, 100):
            yield FramePoses(frame_of(taken, taken / FPS), poses_of((0, (100, 0))), np.array([0.4]))

    results = assign_ids(frames(), COCO.sigmas)
    for count in range(1, 10):
        next(results)
        assert taken - count < MIN_FRAMES


def idf1(truth, predicted):
    """IDF1 (Ristani et al. 2016): F1 of the detections whose number belongs to their person, by the best assignment.

    Args:
        truth: per detection, the person.
        predicted: per detection, its number; 0 for none.
    """
    people, numbers = sorted(set(truth)), sorted(set(predicted) - {0})
    pairs = list(zip(truth, predicted, strict=True))
    together = np.array([[pairs.count((person, number)) for number in numbers] for person in people])
    matched = together[linear_sum_assignment(-together)].sum()
    return 2 * matched / (len(truth) + sum(number > 0 for number in predicted))


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        ([1, 1, 1, 2, 2], [7, 7, 7, 3, 3], 1),
        ([1, 1, 1, 1], [5, 5, 6, 6], 0.5),  # a new number halfway
        ([1, 1, 2, 2], [5, 6, 6, 5], 0.5),  # numbers exchanged halfway
        ([1, 1, 1, 1], [5, 5, 0, 0], 2 / 3),  # two of four without a number: precision 1, recall .5
    ],
)
def test_idf1_of_cases_computed_by_hand(truth, predicted, expected):
    assert idf1(truth, predicted) == pytest.approx(expected)


def track_crowd(seed):
    """Track six people who walk to and fro for 12 s; every tenth detection is missing or false, 3 pixels off.

    Returns:
        per frame, the persons who are detected and the numbers that they get.
    """
    rng = np.random.default_rng(seed)
    start, speed, height = rng.uniform(0, 1200, 6), rng.uniform(-150, 150, 6), rng.uniform(0, 300, 6)
    tracker, frames = IdentityTracker(COCO.sigmas), []
    for index in range(round(12 * FPS)):
        position = np.abs((start + speed * index / FPS) % 2400 - 1200)
        seen = [person for person in rng.permutation(6) if rng.random() > 0.1]
        people = [(person, (position[person], height[person])) for person in seen]
        false = [(0, rng.uniform(0, 2000, 2))] if rng.random() < 0.1 else []
        found = tracker.update(poses_of(*people, *false, noise=3.0, rng=rng), index / FPS)
        frames.append((seen, found[: len(seen)]))
    return with_numbers(frames), tracker.count


def track_clip(clip):
    """Track drawn people: boxes of the visible parts, keypoints 2 pixels off, who is half hidden is missed."""
    rng = np.random.default_rng(0)
    tracker, frames = IdentityTracker(COCO.sigmas), []
    for index, frame in enumerate(clip):
        keypoints = frame.keypoints + rng.normal(0, 2, frame.keypoints.shape)
        poses = Poses(keypoints.astype(np.float32), np.full(keypoints.shape[:2], 0.8, np.float32), frame.bboxes_xywh)
        frames.append((frame.numbers, tracker.update(poses, index / CLIP_FPS)))
    return with_numbers(frames), tracker.count


def with_numbers(frames):
    """Replace the tracks by their numbers, which are final only at the end of the video."""
    return [(people, [0 if track is None else track.number for track in tracks]) for people, tracks in frames]


def joined(frames):
    """Return the persons of all frames, and their numbers."""
    return [[item for row in rows for item in row] for rows in zip(*frames, strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_idf1_of_a_crowd_with_missed_and_false_detections(seed):
    frames, _ = track_crowd(seed)
    assert idf1(*joined(frames)) > 0.95


def test_idf1_of_drawn_people_who_hide_each_other(clip):
    frames, count = track_clip(clip)
    assert 4 * len(clip) - sum(len(people) for people, _ in frames) > 20  # missed
    assert count == 4
    assert idf1(*joined(frames)) > 0.95


def motmetrics_summary(frames):
    """IDF1 and number of switches by py-motmetrics, the reference implementation of CLEAR MOT and IDF1 in Python."""
    motmetrics = pytest.importorskip("motmetrics", reason="needs motmetrics (pip install motmetrics)")
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for people, numbers in frames:
        found = [number for number in numbers if number]
        distances = [[0 if number == own else np.nan for number in found] for own in numbers]
        accumulator.update(people, found, np.array(distances).reshape(len(people), len(found)))
    summary = motmetrics.metrics.create().compute(accumulator, metrics=["idf1", "num_switches"])
    return float(summary["idf1"].iloc[0]), int(summary["num_switches"].iloc[0])


def test_idf1_is_that_of_motmetrics(clip):
    """On good tracks, and on the same tracks with numbers taken away and exchanged at random."""
    rng = np.random.default_rng(0)
    for frames in (track_crowd(0)[0], track_clip(clip)[0]):
        damaged = []
        for people, numbers in frames:
            kept = [number if rng.random() > 0.2 else 0 for number in numbers]
            damaged.append((people, list(rng.permutation(kept)) if rng.random() < 0.3 else kept))
        for case in (frames, damaged):
            assert idf1(*joined(case)) == pytest.approx(motmetrics_summary(case)[0])
        assert idf1(*joined(damaged)) < 0.9


def test_motmetrics_counts_no_switch_among_drawn_people(clip):
    assert motmetrics_summary(track_clip(clip)[0])[1] == 0
