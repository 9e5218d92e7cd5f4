"""The pipeline suite: samples of the same persons, or nothing is timed."""

import numpy as np
import pytest
import torch

import pose.tools.benchmarks
from pose.errors import PoseError
from pose.tools.benchmarks import pipeline
from pose.tools.benchmarks._timing import Budget


def measure(peer=None):
    return list(pipeline.measure(Budget(rounds=1), np.random.default_rng(0), peer=peer, images=2))


def test_ours_meets_reading_alone_and_hrnet_where_there_is_one(timed, checkout):
    cases = [f"one training sample, from {source}" for source in ("JPEGs", "a crop cache")]

    alone, both = measure(), measure(checkout.path)

    assert [(c.case, c.against_name, c.bar) for c in alone] == [
        (case, "reading the JPEGs alone", None) for case in cases
    ]
    assert [(c.case, c.against_name, c.ratio.value, c.bar) for c in both] == [
        (case, *rest)
        for case, bar in zip(cases, (0.5, 0.2), strict=True)
        for rest in (("reading the JPEGs alone", 0.1, None), ("HRNet's code", 0.05, bar))
    ]


def test_the_cache_is_read_and_holds_the_same_persons(monkeypatch):
    drawn = []

    def look(calls, budget, rng, clock):
        samples = calls["ours"].args[0]
        drawn.append((samples.crops, samples[3, 1]))
        return {name: np.ones(1) for name in calls}

    monkeypatch.setattr(pose.tools.benchmarks, "time_interleaved", look)
    measure()

    (no_crops, plain), (crops, cached) = drawn
    assert no_crops is None
    assert len(crops) == 2
    for part in ("heatmaps", "weights", "id"):
        torch.testing.assert_close(getattr(cached, part), getattr(plain, part))
    assert 0 < (cached.image.float() - plain.image.float()).abs().mean() < 10


def test_times_are_of_one_sample(timed):
    row, _ = measure()

    assert row.ours.median == 500  # a call of two takes a second


def test_every_call_draws_new_views_of_all_images_and_normalises_them(monkeypatch):
    drawn, normalised = [], []
    draw, normalize = pipeline.TrainingSamples.__getitem__, pipeline.normalize
    monkeypatch.setattr(pipeline.TrainingSamples, "__getitem__", lambda self, key: drawn.append(key) or draw(self, key))
    monkeypatch.setattr(pipeline, "normalize", lambda crops: normalised.append(crops.shape) or normalize(crops))

    list(pipeline.measure(Budget(rounds=2, warmup=0), np.random.default_rng(0), peer=None, images=2))

    assert drawn == [(0, 0), (0, 1), (1, 0), (1, 1)] * 2
    assert normalised == [(1, 256, 192, 3)] * 8


def test_hrnets_samples_are_augmented_and_normalised(timed, checkout):
    measure(checkout.path)

    (data_set,) = timed[0]["HRNet's code"].args
    crop = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    assert data_set.is_train
    torch.testing.assert_close(data_set.transform(crop)[None], pipeline.normalize(torch.from_numpy(crop)[None]))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sample.image.numpy()", "sample.image.numpy()[..., ::-1].copy()", "images, on average, of ours"),
        ("sample.heatmaps,", "sample.heatmaps + 0.001,", "targets of ours"),
        ("sample.weights[", "-sample.weights[", "weights of ours"),
    ],
)
def test_other_samples_are_not_timed(timed, checkout, old, new, message):
    checkout.edit("dataset/coco.py", old, new)

    with pytest.raises(PoseError, match=f"^HRNet's code: expected the {message}"):
        measure(checkout.path)
    assert not timed


def test_images_are_as_heavy_as_cocos(tmp_path):
    persons = pipeline.draw_persons(tmp_path, 3, np.random.default_rng(0))

    sizes = [persons.record(index).image_path.stat().st_size for index in range(3)]
    assert all(100_000 < size < 200_000 for size in sizes)
    assert len(set(sizes)) == 3
    assert all(100 <= height <= 450 for height in persons.bboxes_xywh[:, 3] + 1)


def test_a_real_measurement_ends_and_leaves_nothing(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())

    for comparison in measure(checkout.path):
        assert 0 < comparison.ours.median < 1e4
    assert sorted(tmp_path.iterdir()) == before
