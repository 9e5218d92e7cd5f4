"""detect_every: the detector runs in every Nth frame, and a detector that knows the boxes costs its delay."""

import time

import numpy as np
import pytest

from pose.errors import MediaError
from pose.tools.benchmarks import detect_every
from pose.tools.benchmarks._clip import walking_people
from pose.tools.benchmarks._timing import Budget
from pose.video.readers import open_source


def test_each_n_has_a_time_and_an_ap_against_every_frame(monkeypatch):
    monkeypatch.setattr(detect_every, "DELAY_S", 0.0)
    rows = list(detect_every.measure(Budget(rounds=1), np.random.default_rng(0), frames=11))

    assert [row.unit for row in rows] == ["ms", "AP"] * 4
    assert [row.case.split()[3] for row in rows[::2]] == ["1", "2", "5", "10"]
    assert rows[1].ours == rows[1].against
    assert all(0 < row.ours.median <= 100 for row in rows[1::2])
    assert len({row.against.median for row in rows[1::2]}) == 1


def test_known_boxes_are_those_of_the_clip_after_a_delay(tmp_path):
    clip = walking_people(3)
    video, _ = detect_every.write_clip(clip, tmp_path)
    frames = list(open_source(video))

    start = time.perf_counter()
    detections = detect_every.known_boxes(clip, 0.02)(frames[1:])

    assert time.perf_counter() - start >= 0.04
    for found, frame in zip(detections, clip[1:], strict=True):
        np.testing.assert_array_equal(found.bboxes_xywh, frame.bboxes_xywh)


def test_a_missing_detector_is_named_in_the_error():
    with pytest.raises(MediaError, match="no such detector file"):
        list(detect_every.measure(Budget(rounds=1), np.random.default_rng(0), detector="none.onnx", frames=2))
