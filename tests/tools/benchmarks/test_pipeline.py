"""The pipeline suite: calls are timed only if their samples are equal."""

import numpy as np
import pytest
import torch

import pose.tools.benchmarks
from pose.errors import PoseError
from pose.tools.benchmarks import pipeline
from pose.tools.benchmarks._timing import Budget


def measure(peer=None):
    return list(pipeline.measure(Budget(rounds=1), np.random.default_rng(0), peer=peer, images=2))


def test_ours_is_compared_with_reading_alone_and_with_a_given_peer(timed, checkout):
    cases = [f"one training sample, from {source}" for source in ("JPEGs", "a crop cache")]

    without_peer, with_peer = measure(), measure(checkout.path)

    assert [(c.case, c.against_name, c.target) for c in without_peer] == [
        (case, "reading the JPEGs alone", None) for case in cases
    ]
    assert [(c.case, c.against_name, c.ratio.value, c.target) for c in with_peer] == [
        (case, *row)
        for case, target in zip(cases, (0.5, 0.2), strict=True)
        for row in (("reading the JPEGs alone", 0.1, None), ("HRNet's code", 0.05, target))
    ]


def test_samples_from_the_cache_equal_samples_from_jpegs(monkeypatch):
    sampled = []

    def fake_times(calls, budget, rng):
        samples = calls["ours"].args[0]
        sampled.append((samples.crops, samples[3, 1]))
        return {name: np.ones(1) for name in calls}

    monkeypatch.setattr(pose.tools.benchmarks, "time_interleaved", fake_times)
    measure()

    (no_crops, from_jpeg), (crops, cached) = sampled
    assert no_crops is None
    assert len(crops) == 2
    for field in ("heatmaps", "weights", "id"):
        torch.testing.assert_close(getattr(cached, field), getattr(from_jpeg, field))
    assert 0 < (cached.image.float() - from_jpeg.image.float()).abs().mean() < 10


def test_times_are_per_sample(timed):
    row, _ = measure()

    assert row.ours.median == 500  # ms; a call with two samples takes 1 s


def test_every_call_augments_all_images_anew_and_normalizes_them(monkeypatch):
    sampled, normalized = [], []
    get_sample, normalize = pipeline.TrainingSamples.__getitem__, pipeline.normalize
    monkeypatch.setattr(
        pipeline.TrainingSamples, "__getitem__", lambda self, key: sampled.append(key) or get_sample(self, key)
    )
    monkeypatch.setattr(pipeline, "normalize", lambda crops: normalized.append(crops.shape) or normalize(crops))

    list(pipeline.measure(Budget(rounds=2, warmup=0), np.random.default_rng(0), peer=None, images=2))

    assert sampled == [(0, 0), (0, 1), (1, 0), (1, 1)] * 2
    assert normalized == [(1, 256, 192, 3)] * 8


def test_hrnet_samples_are_augmented_and_normalized(timed, checkout):
    measure(checkout.path)

    (dataset,) = timed[0]["HRNet's code"].args
    crop = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    assert dataset.is_train
    torch.testing.assert_close(dataset.transform(crop)[None], pipeline.normalize(torch.from_numpy(crop)[None]))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sample.image.numpy()", "sample.image.numpy()[..., ::-1].copy()", "pixels, on average, within"),
        ("sample.heatmaps,", "sample.heatmaps + 0.001,", "targets within 1e-06 of ours"),
        ("sample.weights[", "-sample.weights[", "weights within 0 of ours"),
    ],
)
def test_different_samples_are_an_error_and_not_timed(timed, checkout, old, new, message):
    checkout.edit("dataset/coco.py", old, new)

    with pytest.raises(PoseError, match=f"^HRNet's code: expected {message}"):
        measure(checkout.path)
    assert not timed


def test_images_have_about_the_file_size_of_coco(tmp_path):
    persons = pipeline.write_dataset(tmp_path, 3, np.random.default_rng(0))

    sizes = [persons.record(index).image_path.stat().st_size for index in range(3)]
    assert all(100_000 < size < 200_000 for size in sizes)
    assert len(set(sizes)) == 3
    assert all(100 <= height <= 450 for height in persons.bboxes_xywh[:, 3] + 1)


def test_a_real_measurement_leaves_no_files(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())

    for comparison in measure(checkout.path):
        assert 0 < comparison.ours.median < 1e4
    assert sorted(tmp_path.iterdir()) == before
