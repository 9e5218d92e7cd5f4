"""Order of rows: shuffling, split among ranks and accumulation steps, resuming, and any number of workers."""

from itertools import chain

import numpy as np
import pytest
import torch

from pose.config.pose import AugmentConfig, InputConfig
from pose.datasets import loading, samples
from pose.datasets.coco import annotated_persons
from pose.datasets.loading import EpochSampler, batches, training_loader
from pose.errors import ConfigError, DataError
from pose.skeleton import COCO

SMALL = InputConfig(size_hw=(64, 64))


def rows_of(sampler, epoch=0, first_step=0):
    sampler.start(epoch, first_step)
    return [[row for _, row in part] for part in sampler]


def flat(parts):
    return list(chain.from_iterable(parts))


@pytest.fixture
def persons(tiny_coco):
    return annotated_persons(tiny_coco.annotations, tiny_coco.images, COCO)


@pytest.fixture
def training(persons):
    return samples.TrainingSamples(persons, COCO, SMALL, AugmentConfig(), 0)


def test_an_epoch_visits_each_row_once():
    for epoch in range(3):
        assert sorted(flat(rows_of(EpochSampler(24, 4), epoch))) == list(range(24))


def test_the_incomplete_last_batch_is_dropped_and_differs_between_epochs():
    sampler = EpochSampler(26, 4)

    visited = [flat(rows_of(sampler, epoch)) for epoch in range(4)]

    assert sampler.steps == 6
    assert all(len(rows) == len(set(rows)) == 24 for rows in visited)
    assert len({frozenset(rows) for rows in visited}) > 1


def test_the_order_is_a_function_of_seed_and_epoch():
    first = rows_of(EpochSampler(100, 10, seed=1), epoch=2)

    assert first == rows_of(EpochSampler(100, 10, seed=1), epoch=2)
    assert first != rows_of(EpochSampler(100, 10, seed=1), epoch=3)
    assert first != rows_of(EpochSampler(100, 10, seed=2), epoch=2)
    assert flat(first) != list(range(100))


def test_each_key_has_the_epoch():
    sampler = EpochSampler(8, 4)
    sampler.start(5)

    assert {epoch for part in sampler for epoch, _ in part} == {5}


@pytest.mark.parametrize(("accumulate", "world_size"), [(1, 2), (2, 1), (2, 2), (3, 4), (12, 1), (1, 12)])
def test_world_size_and_accumulation_do_not_change_the_rows_of_a_step(accumulate, world_size):
    all_rows = rows_of(EpochSampler(50, 12, seed=3), epoch=1)

    parts = [rows_of(EpochSampler(50, 12, accumulate, rank, world_size, seed=3), epoch=1) for rank in range(world_size)]

    assert all(len(part) == 12 // accumulate // world_size for rank in parts for part in rank)
    for step, expected in enumerate(all_rows):
        of_step = [part for rank in parts for part in rank[step * accumulate : (step + 1) * accumulate]]
        assert sorted(flat(of_step)) == sorted(expected)


def test_resuming_within_an_epoch_continues_with_the_same_batches():
    sampler = EpochSampler(40, 6, accumulate=3, rank=1, world_size=2)
    all_rows = rows_of(sampler, epoch=4)

    assert len(all_rows) == len(EpochSampler(40, 6, accumulate=3, rank=1, world_size=2)) == 18
    for first_step in (1, 4, 6):
        assert rows_of(sampler, 4, first_step) == all_rows[first_step * 3 :]
        assert len(sampler) == len(all_rows) - first_step * 3
    assert rows_of(sampler, 4) == all_rows


@pytest.mark.parametrize(
    ("count", "batch_size", "accumulate", "world_size", "part"),
    [
        (100, 10, 3, 1, "multiple of train.accumulate 3"),
        (100, 10, 1, 4, "4 processes"),
        (100, 12, 4, 2, "multiple"),
        (9, 10, 1, 1, "larger than the 9 training persons"),
        (0, 1, 1, 1, "0 training persons"),
    ],
)
def test_an_invalid_batch_size_is_rejected(count, batch_size, accumulate, world_size, part):
    with pytest.raises(ConfigError, match=part):
        EpochSampler(count, batch_size, accumulate, 0, world_size)


def test_a_batch_as_large_as_the_data_set_is_one_step():
    assert EpochSampler(9, 9).steps == 1


def load_batches(training, workers, epochs=(0, 1)):
    sampler = EpochSampler(len(training), 2)
    loader = training_loader(training, sampler, workers, pin_memory=False)
    loaded = []
    for epoch in epochs:
        sampler.start(epoch)
        assert len(loader) == 2
        loaded += list(batches(loader))
    return loaded


def test_the_number_of_workers_does_not_change_the_batches(training):
    without, with_workers = load_batches(training, 0), load_batches(training, 2)

    assert len(without) == len(with_workers) == 4
    for one, other in zip(without, with_workers, strict=True):
        assert isinstance(one, samples.PoseSample)
        assert one.image.shape == (2, 64, 64, 3)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(without[0].image, without[2].image)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_test_loader_yields_every_row_in_order(persons, workers):
    crops = samples.TestCrops(persons, SMALL)

    loaded = list(batches(loading.test_loader(crops, 2, workers)))

    assert [len(batch.row) for batch in loaded] == [2, 2, 1]
    assert torch.cat([batch.row for batch in loaded]).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(torch.cat([batch.image for batch in loaded])[3], crops[3].image)
    np.testing.assert_array_equal(torch.cat([batch.heatmap_to_image for batch in loaded])[4], crops[4].heatmap_to_image)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_image_is_a_one_line_error_with_and_without_workers(training, workers):
    path = training.persons.record(0).image_path
    path.unlink()

    with pytest.raises(DataError) as caught:
        load_batches(training, workers)

    assert str(caught.value).startswith(f"{path}: cannot read the image")
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_an_unexpected_error_in_a_worker_keeps_its_traceback(training):
    training.skeleton = None

    with pytest.raises(AttributeError, match="Original Traceback"):
        load_batches(training, 1)
