"""The video pipeline: batches over frames, frames without persons, box files, threads, memory, Ctrl-C, errors."""

import gc
import json
import os
import signal
import threading
import time
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pose.errors import DataError, MediaError
from pose.inference.detectors import Detections, load_detector
from pose.inference.poses import Poses
from pose.inference.visualize import draw_poses
from pose.skeleton import COCO
from pose.video.pipeline import MAX_QUEUED_FRAMES, DemoSummary, detect_with, estimate_poses, read_boxes, run_demo
from pose.video.readers import Frame, FrameSource


class FakePredictor:
    """Returns all keypoints at the center of the box; records the number of boxes per image of each call."""

    def __init__(self):
        self.calls = []

    def predict_batch(self, images, boxes):
        assert len(images) == len(boxes)
        self.calls.append([len(rows) for rows in boxes])
        return [self.poses(np.asarray(rows, dtype=np.float64)) for rows in boxes]

    def poses(self, boxes):
        centers = np.repeat((boxes[:, None, :2] + boxes[:, None, 2:] / 2), 17, axis=1)
        return Poses(centers, np.full((len(boxes), 17), 0.5), boxes)


def frames_of(count: int):
    for index in range(count):
        yield Frame(index, np.full((48, 64, 3), 100 + index % 100, np.uint8), index, f"{index:06d}.jpg", index / 10)


def source_of(count: int, kind="video") -> FrameSource:
    return FrameSource("in.mp4", kind, frames_of(count), (64, 48), 10.0, None if kind == "camera" else range(count))


def persons_on_odd_frames(frames):
    box = np.array([[8.0, 8, 20, 30]])
    return [Detections(box[: frame.index % 2], np.full(frame.index % 2, 0.5)) for frame in frames]


def test_persons_of_several_frames_share_a_batch():
    predictor = FakePredictor()
    results = list(estimate_poses(frames_of(7), persons_on_odd_frames, predictor, batch_frames=4))
    assert predictor.calls == [[0, 1, 0, 1], [0, 1, 0]]
    assert [result.frame.index for result in results] == list(range(7))
    assert [len(result.poses) for result in results] == [0, 1, 0, 1, 0, 1, 0]
    assert results[1].poses.keypoints[0, 0].tolist() == [18, 23]
    assert results[1].scores.tolist() == [0.25]  # box 0.5 times keypoints 0.5


@pytest.mark.parametrize("batch_frames", [1, 3, 100])
def test_batch_size_does_not_change_the_result(batch_frames):
    results = list(estimate_poses(frames_of(7), persons_on_odd_frames, FakePredictor(), batch_frames))
    assert [(r.frame.index, len(r.poses)) for r in results] == [(i, i % 2) for i in range(7)]


def test_duplicates_are_dropped_only_with_a_maximum_oks():
    def twice_and_once(frames):
        boxes = np.array([[8.0, 8, 20, 30], [9, 8, 20, 30], [40, 8, 20, 30]])
        return [Detections(boxes, np.array([0.5, 0.9, 0.4])) for _ in frames]

    predictor = FakePredictor()
    predictor.skeleton = COCO
    (kept_all,) = estimate_poses(frames_of(1), twice_and_once, predictor)
    assert kept_all.scores.tolist() == [0.25, 0.45, 0.2]
    (result,) = estimate_poses(frames_of(1), twice_and_once, predictor, max_oks=0.8)
    assert result.scores.tolist() == [0.45, 0.2]
    assert result.poses.bboxes_xywh[:, 0].tolist() == [9, 40]
    assert result.poses.keypoints.shape == (2, 17, 2)
    assert result.poses.scores.shape == (2, 17)


def demo(source, image_writer, json_writer=None, *, batch_frames=8, predictor=None, **options):
    """Run the demo with one person on odd frames."""
    estimate = partial(
        estimate_poses,
        detect=persons_on_odd_frames,
        predictor=predictor or FakePredictor(),
        batch_frames=batch_frames,
    )
    return run_demo(source, estimate, COCO, image_writer, json_writer, **options)


def test_only_frames_with_persons_are_drawn_on():
    changed = {}
    written = []

    def image_writer(frame, image):
        changed[frame.index] = bool((image != frame.image).any())

    count = demo(source_of(6), image_writer, lambda frame, poses, scores: written.append(len(poses)))

    assert changed == {index: index % 2 == 1 for index in range(6)}
    assert written == [0, 1, 0, 1, 0, 1]
    assert str(count) == "6 frames, up to 1 person at once"


def test_the_drawing_is_on_black_or_beside_the_frame():
    images = {}
    for name, options in {
        "plain": {},
        "black": {"background": "black"},
        "beside": {"side_by_side": True},
    }.items():
        demo(source_of(2), lambda frame, image, name=name: images.__setitem__((name, frame.index), image), **options)
    frame = np.full((48, 64, 3), 101, np.uint8)
    np.testing.assert_array_equal(images["beside", 1], np.hstack([frame, images["plain", 1]]))
    assert not images["black", 0].any()
    assert images["black", 1].any()
    drawn = (images["plain", 1] != frame).any(axis=-1)
    assert not images["black", 1][~drawn].any()


def test_a_window_shows_the_drawn_images_and_closing_it_ends_the_demo():
    class Closing:
        image = None
        shown = 0

        def show(self):
            self.shown += self.image is not None
            return self.shown == 3

    written = []
    window = Closing()
    summary = demo(source_of(1000), lambda frame, image: written.append(image), window=window, batch_frames=1)
    assert 3 <= summary.frames == len(written) < 1000
    assert window.image is written[-1]


def test_threads_do_not_change_images_keypoints_or_order():
    drawn, written, expected = [], [], []
    for result in estimate_poses(frames_of(50), persons_on_odd_frames, FakePredictor(), 4):
        image = draw_poses(result.frame.image, result.poses, COCO, scores=result.scores, keypoint_threshold=0.4)
        expected.append((result.frame.index, image.tobytes(), result.poses.keypoints.tolist(), result.scores.tolist()))

    demo(
        source_of(50),
        lambda frame, image: drawn.append((frame.index, image.tobytes())),
        lambda frame, poses, scores: written.append((poses.keypoints.tolist(), scores.tolist())),
        batch_frames=4,
        keypoint_threshold=0.4,
    )

    assert [(*image, *poses) for image, poses in zip(drawn, written, strict=True)] == expected


def test_frames_are_read_and_written_while_the_model_runs():
    read, wrote = threading.Event(), threading.Event()

    class Waiting(FakePredictor):
        """Waits in the second chunk until the first is written and a frame after the second is read."""

        def predict_batch(self, images, boxes):
            assert not self.calls or (wrote.wait(30) and read.wait(30))
            return super().predict_batch(images, boxes)

    def frames():
        for frame in frames_of(8):
            if frame.index == 5:
                read.set()
            yield frame

    threads = []

    def image_writer(frame, image):
        threads.append(threading.get_ident())
        wrote.set()

    demo(replace(source_of(8), frames=frames()), image_writer, batch_frames=2, predictor=Waiting())
    assert len(threads) == 8
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        (DemoSummary("video", 300, 900, 5, 4), "300 frames, 4 people"),
        (DemoSummary("video", 1, 1, 1, 1), "1 frame, 1 person"),
        (DemoSummary("camera", 20, 30, 2, None), "20 frames, up to 2 people at once"),
        (DemoSummary("folder", 3, 7, 4, None), "3 images, 7 people"),
        (DemoSummary("image", 1, 0, 0, None), "1 image, 0 people"),
    ],
)
def test_the_summary_counts_people(summary, text):
    assert str(summary) == text


def test_the_summary_counts_different_people_of_a_tracked_video():
    def estimate(frames):
        for result in estimate_poses(frames, persons_on_odd_frames, FakePredictor()):
            number = 1 + result.frame.index // 4
            yield result._replace(poses=replace(result.poses, ids=np.full(len(result.poses), number)))

    summary = run_demo(source_of(12), estimate, COCO, lambda *_: None)
    assert summary == DemoSummary("video", 12, 6, 1, 3)


def test_max_frames_ends_the_demo():
    drawn = []
    assert demo(source_of(100), lambda frame, image: drawn.append(frame.index), max_frames=5).frames == 5
    assert drawn == list(range(5))


def test_no_frame_after_max_frames_is_read():
    source = source_of(100)
    demo(source, lambda *_: None, max_frames=5)
    assert next(source.frames).index == 5


def test_the_number_of_frames_in_memory_is_bounded():
    alive = weakref.WeakSet()
    maximum = 0

    class HashableArray(np.ndarray):
        """An array that a WeakSet can hash."""

        __hash__ = object.__hash__
        __eq__ = object.__eq__

    def frames():
        for frame in frames_of(200):
            image = frame.image.view(HashableArray)
            alive.add(image)
            yield replace(frame, image=image)

    def image_writer(frame, image):
        nonlocal maximum
        gc.collect(0)
        maximum = max(maximum, len(list(alive)))

    demo(replace(source_of(200), frames=frames()), image_writer, lambda *_: None, batch_frames=8)
    assert 8 <= maximum <= 2 * 8 + 2 * MAX_QUEUED_FRAMES + 2


def test_ctrl_c_ends_a_camera_recording_normally():
    drawn = []

    def image_writer(frame, image):
        drawn.append(frame.index)
        if frame.index == 3:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    frames = demo(source_of(1000, "camera"), image_writer, batch_frames=2).frames
    assert frames == len(drawn) < 4 + 2 * MAX_QUEUED_FRAMES
    assert drawn == list(range(frames))
    assert signal.getsignal(signal.SIGINT) == before


@pytest.fixture
def _interruptible():
    """Restore Python's handler: shells start background processes with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_ctrl_c_on_a_file_raises_keyboard_interrupt():
    before = threading.active_count()

    def image_writer(frame, image):
        if frame.index == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        demo(source_of(10000), image_writer)
    assert threading.active_count() == before


def test_an_exception_in_a_thread_is_raised_and_leaves_no_thread():
    def damaged_frames():
        yield from frames_of(10)
        raise MediaError("frame 10 cannot be read")

    def full_disk(frame, image):
        if frame.index == 3:
            raise MediaError("disk is full")

    before = threading.active_count()
    drawn = []
    with pytest.raises(MediaError, match="frame 10 cannot be read"):
        demo(
            replace(source_of(100), frames=damaged_frames()),
            lambda frame, image: drawn.append(frame.index),
            batch_frames=2,
        )
    assert drawn == list(range(len(drawn)))
    with pytest.raises(MediaError, match="disk is full"):
        demo(source_of(10000), full_disk)
    with pytest.raises(MediaError, match="disk is full"):
        demo(source_of(4), full_disk)
    assert threading.active_count() == before


def test_detector_none_gives_one_person_per_frame():
    results = list(estimate_poses(frames_of(2), detect_with(load_detector("none")), FakePredictor()))
    assert [r.poses.bboxes_xywh.tolist() for r in results] == [[[0, 0, 64, 48]]] * 2


def write_boxes(path: Path, *rows: tuple) -> Path:
    keys = ("image_id", "bbox", "score", "category_id")
    path.write_text(json.dumps([dict(zip(keys, (*row, 1), strict=False)) for row in rows]))
    return path


def test_boxes_of_a_video_are_matched_by_frame_index(tmp_path):
    path = write_boxes(
        tmp_path / "boxes.json",
        (1, [1, 2, 3, 4], 0.9),
        (1, [5, 6, 7, 8], 0.8),
        (2, [0, 0, 9, 9], 0.1),
        (0, [0, 0, 5, 5], 0.9, 18),  # another category: a dog
    )
    detections = read_boxes(path, source_of(3), score_threshold=0.3)(list(frames_of(3)))
    assert [len(in_frame.scores) for in_frame in detections] == [0, 2, 0]
    assert detections[1].bboxes_xywh.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert detections[1].scores.tolist() == [0.9, 0.8]


def test_many_boxes_are_grouped_in_linear_time(tmp_path):
    rows = [(frame, [index, 0, 9, 9], 0.9) for frame in range(2000) for index in range(5)]
    path = write_boxes(tmp_path / "boxes.json", *rows)
    start = time.process_time()
    detect = read_boxes(path, source_of(2000))
    seconds = time.process_time() - start
    assert [box[0] for box in detect(list(frames_of(3)))[2].bboxes_xywh] == [0, 1, 2, 3, 4]
    assert seconds < 0.5, "one pass over all rows for each frame takes more than a second"


def test_boxes_of_images_are_matched_by_the_number_in_the_file_name(tmp_path):
    path = write_boxes(tmp_path / "boxes.json", (139, [1, 2, 3, 4], 0.9))
    source = FrameSource("in", "folder", iter(()), (64, 48), image_ids=(0, 139))
    frame = Frame(1, np.zeros((48, 64, 3), np.uint8), 139, "000000000139.jpg")
    assert read_boxes(path, source)([frame])[0].bboxes_xywh.tolist() == [[1, 2, 3, 4]]


def test_boxes_of_a_different_source_are_refused(tmp_path):
    path = write_boxes(tmp_path / "boxes.json", (139, [1, 2, 3, 4], 0.9))
    with pytest.raises(DataError, match=r"none of its image ids \(139 to 139\) is a frame of in\.mp4 \(0 to 9\)"):
        read_boxes(path, source_of(10))


@pytest.mark.parametrize("bbox", [[1, 2, 3], [1, 2, 0, 4], [1, 2, 3, float("nan")]])
def test_malformed_boxes_are_refused(tmp_path, bbox):
    with pytest.raises(DataError, match=r"expected boxes|expected a list|finite"):
        read_boxes(write_boxes(tmp_path / "boxes.json", (0, bbox, 0.9)), source_of(10))
