"""Data loaders: which rows, in which order, for which process.

The order of an epoch is a pure function of (seed, epoch); each step's global batch is cut into equal parts for
accumulation and processes, so every division of the same global batch trains on the same persons.
"""

from collections.abc import Iterator
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pose.errors import ConfigError, PoseError

Batch = TypeVar("Batch")


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, row) for one of several processes; the incomplete last batch is left out.

    Args:
        count: rows of the data set.
        batch_size: global batch of a step.
        accumulate: parts that a process takes a step in.
        rank: of this process.
        processes: how many there are.
        seed: of the order.
        unit: what the rows are, for the message.

    Raises:
        ConfigError: the batch cannot be divided, or is larger than the data set.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        accumulate: int = 1,
        rank: int = 0,
        processes: int = 1,
        seed: int = 0,
        unit: str = "persons",
    ) -> None:
        if batch_size % (accumulate * processes):
            raise ConfigError(
                f"train.batch_size {batch_size} (global) must be a multiple of train.accumulate {accumulate} "
                f"x {processes} processes; set train.batch_size or train.accumulate"
            )
        if count < batch_size:
            raise ConfigError(f"train.batch_size {batch_size} is larger than the {count} training {unit}; lower it")
        self.count, self.batch_size, self.accumulate = count, batch_size, accumulate
        self.rank, self.processes, self.seed = rank, processes, seed
        self.epoch, self.first_step = 0, 0

    @property
    def steps(self) -> int:
        """Optimizer steps an epoch."""
        return self.count // self.batch_size

    def start(self, epoch: int, first_step: int = 0) -> None:
        """Choose the epoch, and the step to begin with, of the next iteration."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        parts = order[: self.steps * self.batch_size].reshape(self.steps, self.accumulate, self.processes, -1)
        for step in parts[self.first_step :, :, self.rank]:
            for part in step:
                yield [(self.epoch, int(row)) for row in part]


def training_loader(
    samples: Dataset[Batch], sampler: EpochSampler, workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    """Load augmented batches; workers stay alive between epochs."""
    return DataLoader(
        samples,
        batch_sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_one_thread,
        # Its seeds, which no sample uses, are not drawn from the generator of dropout and mixup: a run that is resumed
        # inside an epoch, with a loader of its own, draws on as it would have.
        generator=torch.Generator(),
    )


def test_loader(crops: Dataset[Batch], batch_size: int, workers: int) -> DataLoader[Batch]:
    """Load samples in order, the last batch included."""
    return DataLoader(crops, batch_size=batch_size, num_workers=workers, worker_init_fn=_one_thread)


def batches(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """Iterate over a loader; an error of ours raised in a worker comes out as it was, not wrapped in its traceback."""
    try:
        yield from loader
    except PoseError as error:
        message = str(error).strip().rpartition(f"{type(error).__name__}: ")[2]
        raise type(error)(message) from None


def _one_thread(worker: int) -> None:
    """Keep OpenCV to one thread in each of many workers; they are the parallelism."""
    cv2.setNumThreads(0)
