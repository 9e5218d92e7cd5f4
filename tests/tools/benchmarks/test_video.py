"""The video benchmark: demo and serial run, and stage times that add up to the frame time."""

import time

import numpy as np
import pytest

from pose.errors import MediaError
from pose.tools.benchmarks import video
from pose.tools.benchmarks._stopwatch import Stopwatch
from pose.tools.benchmarks._timing import Budget
from pose.video.readers import open_source

TRACKING_ROWS = ["with threads", "read", "search", "crop", "model", "draw", "encode"]
DETECTION_ROWS = ["with threads", "read", "detect", "crop", "model", "draw", "encode"]


def measure(rounds=1, **options):
    return list(video.measure(Budget(rounds=rounds), np.random.default_rng(0), **options))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return video.draw_video(tmp_path_factory.mktemp("video") / "drawn.mp4", 4)


def test_draw_video_moves_the_camera(drawn):
    source = open_source(drawn)
    first, *_, last = (frame.image.astype(float) for frame in source)

    assert (source.count, source.size_wh) == (4, (960, 540))
    shift = round(30 * np.sin(0.3))
    aligned, still = np.abs(first[:, shift:] - last[:, :-shift]).mean(), np.abs(first - last).mean()
    assert aligned < still / 2


def test_tracking_gives_a_row_for_the_demo_and_for_each_stage(drawn):
    rows = measure(rounds=2, video=drawn)

    assert [row.case.split(": ") for row in rows] == [["one person, 1.0 a frame", stage] for stage in TRACKING_ROWS]
    assert [row.against_name for row in rows] == ["one stage after another"] + ["all of its frame"] * 6
    assert all(row.rounds == 2 and row.ours.median > 0 and row.unit == "ms" for row in rows)
    fractions = {row.case.split(": ")[1]: row.ratio.value for row in rows[1:]}
    assert 0.8 < sum(fractions.values()) <= 1
    assert max(fractions, key=lambda stage: fractions[stage]) == "model"


def test_a_detector_adds_its_pipeline(drawn):
    rows = measure(video=drawn, detector="none", frames=2)[len(TRACKING_ROWS) :]

    assert [row.case.split(": ") for row in rows] == [["everybody, 1.0 a frame", stage] for stage in DETECTION_ROWS]


def test_times_are_per_frame(drawn, monkeypatch):
    def fake_timing(calls, budget, rng, clock):
        assert clock is time.perf_counter  # threads overlap
        for call in calls.values():
            call()
        return {"with threads": np.array([8.0]), "one stage after another": np.array([16.0])}

    monkeypatch.setattr(video, "time_interleaved", fake_timing)
    demo, *_ = measure(video=drawn)

    assert (demo.ours.median, demo.against.median) == (2000, 4000)


def test_a_serial_run_excludes_times_from_before(drawn, tmp_path):
    stopwatch = Stopwatch()
    with stopwatch.stage("before"):
        pass

    run = video.Run(drawn, tmp_path / "out.mp4", 2, video._tracking_pipeline(stopwatch))
    stages = run.serial(stopwatch)

    assert "before" not in stages
    assert "model" in stages


def test_a_missing_video_or_detector_is_named_in_the_error():
    with pytest.raises(MediaError, match="no such video"):
        measure(video="none.mp4")
    with pytest.raises(MediaError, match="no such detector file"):
        measure(detector="none.onnx")
