"""Which rows come in which order: permutations, their division among processes, restarts, and any number of workers."""

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


def test_the_incomplete_last_batch_is_left_out_and_differs_from_epoch_to_epoch():
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


def test_each_key_names_the_epoch():
    sampler = EpochSampler(8, 4)
    sampler.start(5)

    assert {epoch for part in sampler for epoch, _ in part} == {5}


@pytest.mark.parametrize(("accumulate", "processes"), [(1, 2), (2, 1), (2, 2), (3, 4), (12, 1), (1, 12)])
def test_every_division_of_a_step_trains_on_the_same_persons(accumulate, processes):
    whole = rows_of(EpochSampler(50, 12, seed=3), epoch=1)

    parts = [rows_of(EpochSampler(50, 12, accumulate, rank, processes, seed=3), epoch=1) for rank in range(processes)]

    assert all(len(part) == 12 // accumulate // processes for rank in parts for part in rank)
    for step, expected in enumerate(whole):
        of_step = [part for rank in parts for part in rank[step * accumulate : (step + 1) * accumulate]]
        assert sorted(flat(of_step)) == sorted(expected)


def test_a_restart_inside_an_epoch_goes_on_with_the_same_batches():
    sampler = EpochSampler(40, 6, accumulate=3, rank=1, processes=2)
    whole = rows_of(sampler, epoch=4)

    assert len(whole) == len(EpochSampler(40, 6, accumulate=3, rank=1, processes=2)) == 18
    for first_step in (1, 4, 6):
        assert rows_of(sampler, 4, first_step) == whole[first_step * 3 :]
        assert len(sampler) == len(whole) - first_step * 3
    assert rows_of(sampler, 4) == whole


@pytest.mark.parametrize(
    ("count", "batch_size", "accumulate", "processes", "part"),
    [
        (100, 10, 3, 1, "multiple of train.accumulate 3"),
        (100, 10, 1, 4, "4 processes"),
        (100, 12, 4, 2, "multiple"),
        (9, 10, 1, 1, "larger than the 9 training persons"),
        (0, 1, 1, 1, "0 training persons"),
    ],
)
def test_a_batch_that_cannot_be_made_is_refused(count, batch_size, accumulate, processes, part):
    with pytest.raises(ConfigError, match=part):
        EpochSampler(count, batch_size, accumulate, 0, processes)


def test_a_batch_as_large_as_the_data_set_is_one_step():
    assert EpochSampler(9, 9).steps == 1


def drawn(training, workers, epochs=(0, 1)):
    sampler = EpochSampler(len(training), 2)
    loader = training_loader(training, sampler, workers, pin_memory=False)
    found = []
    for epoch in epochs:
        sampler.start(epoch)
        assert len(loader) == 2
        found += list(batches(loader))
    return found


def test_the_number_of_workers_changes_no_batch(training):
    alone, helped = drawn(training, 0), drawn(training, 2)

    assert len(alone) == len(helped) == 4
    for one, other in zip(alone, helped, strict=True):
        assert isinstance(one, samples.PoseSample)
        assert one.image.shape == (2, 64, 64, 3)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(alone[0].image, alone[2].image)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_test_loader_gives_every_row_in_order(persons, workers):
    crops = samples.TestCrops(persons, SMALL)

    found = list(batches(loading.test_loader(crops, 2, workers)))

    assert [len(batch.row) for batch in found] == [2, 2, 1]
    assert torch.cat([batch.row for batch in found]).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(torch.cat([batch.image for batch in found])[3], crops[3].image)
    np.testing.assert_array_equal(torch.cat([batch.matrix for batch in found])[4], crops[4].matrix)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_image_is_one_line_wherever_it_is_read(training, workers):
    path = training.persons.record(0).image_path
    path.unlink()

    with pytest.raises(DataError) as caught:
        drawn(training, workers)

    assert str(caught.value).startswith(f"{path}: cannot read the image")
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_another_error_of_a_worker_keeps_its_traceback(training):
    training.skeleton = None

    with pytest.raises(AttributeError, match="Original Traceback"):
        drawn(training, 1)
