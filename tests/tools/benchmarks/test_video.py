"""The video suite: both runs do the demo's work, and the stages are all of a frame."""

import numpy as np
import pytest

from pose.errors import MediaError
from pose.tools.benchmarks import video
from pose.tools.benchmarks._stopwatch import Stopwatch
from pose.tools.benchmarks._timing import Budget
from pose.video.readers import open_source

FOLLOWED = ["with threads", "read", "search", "crop", "model", "keypoints", "draw", "encode"]
DETECTED = ["with threads", "read", "detect", "crop", "model", "keypoints", "draw", "encode"]


def measure(rounds=1, **options):
    return list(video.measure(Budget(rounds=rounds), np.random.default_rng(0), **options))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return video.draw_video(tmp_path_factory.mktemp("video") / "drawn.mp4", 4)


def test_a_video_is_drawn_whose_people_move(drawn):
    source = open_source(drawn)
    first, *_, last = (frame.image.astype(float) for frame in source)

    assert (source.count, source.size_wh) == (4, (960, 540))
    shift = round(30 * np.sin(0.3))
    aligned, still = np.abs(first[:, shift:] - last[:, :-shift]).mean(), np.abs(first - last).mean()
    assert aligned < still / 2


def test_one_person_is_followed_and_every_stage_has_a_row_beside_its_frame(drawn):
    rows = measure(rounds=2, video=drawn)

    assert [row.case.split(": ") for row in rows] == [["one person, 1.0 a frame", stage] for stage in FOLLOWED]
    assert [row.against_name for row in rows] == ["one stage after another"] + ["all of its frame"] * 7
    assert all(row.rounds == 2 and row.ours.median > 0 and row.unit == "ms" for row in rows)
    shares = {row.case.split(": ")[1]: row.ratio.value for row in rows[1:]}
    assert 0.8 < sum(shares.values()) <= 1
    assert max(shares, key=lambda stage: shares[stage]) == "model"


def test_a_detector_adds_its_way(drawn):
    rows = measure(video=drawn, detector="none", frames=2)[len(FOLLOWED) :]

    assert [row.case.split(": ") for row in rows] == [["everybody, 1.0 a frame", stage] for stage in DETECTED]


def test_times_are_of_one_frame(drawn, monkeypatch):
    def fake(calls, budget, rng):
        for call in calls.values():
            call()
        return {"with threads": np.array([8.0]), "one stage after another": np.array([16.0])}

    monkeypatch.setattr(video, "time_interleaved", fake)
    whole, *_ = measure(video=drawn)

    assert (whole.ours.median, whole.against.median) == (2000, 4000)


def test_a_serial_run_counts_nothing_that_came_before(drawn, tmp_path):
    stopwatch = Stopwatch()
    with stopwatch.stage("before"):
        pass

    run = video.Run(drawn, tmp_path / "out.mp4", 2, video._following(stopwatch))
    stages = run.serial(stopwatch)

    assert "before" not in stages
    assert "model" in stages


def test_what_cannot_be_opened_is_named():
    with pytest.raises(MediaError, match="no such video"):
        measure(video="none.mp4")
    with pytest.raises(MediaError, match="no such detector file"):
        measure(detector="none.onnx")
