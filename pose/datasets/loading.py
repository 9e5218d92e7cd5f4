"""Data loaders, and the batch sampler for distributed training and gradient accumulation.

The order of an epoch is a pure function of (seed, epoch). The global batch of a step is split equally among ranks and
accumulation steps, so a step trains on the same rows for any world size and accumulation.
"""

import os
from collections.abc import Iterator
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pose.errors import ConfigError, DataError, PoseError

Batch = TypeVar("Batch")


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Distributed batch sampler: yields batches of (epoch, row) for one rank; drops the incomplete last batch.

    Args:
        count: number of rows in the data set.
        batch_size: global batch size of an optimizer step.
        accumulate: gradient accumulation steps.
        rank: rank of this process.
        world_size: number of processes.
        seed: seed of the shuffling.
        unit: name of the rows in error messages.

    Raises:
        ConfigError: the batch cannot be divided, or is larger than the data set.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        unit: str = "persons",
    ) -> None:
        if batch_size % (accumulate * world_size):
            raise ConfigError(
                f"train.batch_size {batch_size} (global) must be a multiple of train.accumulate {accumulate} "
                f"x {world_size} processes; set train.batch_size or train.accumulate"
            )
        if count < batch_size:
            raise ConfigError(f"train.batch_size {batch_size} is larger than the {count} training {unit}; lower it")
        self.count, self.batch_size, self.accumulate = count, batch_size, accumulate
        self.rank, self.world_size, self.seed = rank, world_size, seed
        self.epoch, self.first_step = 0, 0

    @property
    def steps(self) -> int:
        """Optimizer steps per epoch."""
        return self.count // self.batch_size

    def start(self, epoch: int, first_step: int = 0) -> None:
        """Set the epoch and the first step of the next iteration."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        rows = order[: self.steps * self.batch_size].reshape(self.steps, self.accumulate, self.world_size, -1)
        for step in rows[self.first_step :, :, self.rank]:
            for batch in step:
                yield [(self.epoch, int(row)) for row in batch]


def training_loader(
    samples: Dataset[Batch], sampler: EpochSampler, workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    """Return a data loader of augmented batches; its workers stay alive between epochs."""
    return DataLoader(
        samples,
        batch_sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_prepare_worker,
        # By default, a loader draws worker seeds from the global generator, which dropout and mixup use; a run that is
        # resumed within an epoch would then differ. No sample uses these seeds.
        generator=torch.Generator(),
    )


def test_loader(crops: Dataset[Batch], batch_size: int, workers: int) -> DataLoader[Batch]:
    """Return a data loader in order, including the incomplete last batch."""
    return DataLoader(crops, batch_size=batch_size, num_workers=workers, worker_init_fn=_prepare_worker)


def batches(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """Iterate over a loader; a `PoseError` of a worker is raised with its own message, without the traceback.

    Raises:
        DataError: a worker has ended.
    """
    try:
        yield from loader
    except PoseError as error:
        message = str(error.args[0]).strip().rpartition(f"{type(error).__name__}: ")[2]
        raise type(error)(message) from None
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise DataError(
            f"a data worker has ended ({str(error)[:100]}); it may lack memory, lower the option workers"
        ) from None


def _prepare_worker(worker: int) -> None:
    """Run OpenCV single-threaded, as the workers already use all cores, and leave Ctrl-C to the training process.

    A terminal sends Ctrl-C to the whole process group. The training process finishes its step, for which it may need
    more batches, and then ends its workers.
    """
    cv2.setNumThreads(0)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
