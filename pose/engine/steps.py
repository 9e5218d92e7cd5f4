"""The steps of an epoch, whatever is trained: accumulation, mixed precision, and a stop on a loss that is not finite.

A task says what is minimised by its `Objective` (`pose.engine.pose`, `pose.engine.classify`).
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pose.config_sections import OptimisationConfig
from pose.engine.checkpoint import Training
from pose.engine.distributed import Processes, gather, mean_over_processes
from pose.engine.schedules import cosine_decay, step_decay, warmup
from pose.errors import TrainingError

Batch = TypeVar("Batch")

AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
CHECK_STEPS = 20
"""On a GPU losses are read this often only, because each reading waits for the device."""


class Part(NamedTuple):
    """A batch made ready for one backward pass, on the process's device."""

    images: torch.Tensor
    """(B, 3, H, W) normalised."""
    loss: Callable[[torch.Tensor], torch.Tensor]
    """The mean loss of what the net makes of them."""
    ids: torch.Tensor
    """(B,) of the records behind them, to name them when something is wrong."""


def name_records(ids: list[int]) -> str:
    """Name the records of a batch by their ids."""
    return f"the records {ids}"


@dataclass(frozen=True)
class Objective(Generic[Batch]):
    """What is minimised.

    Attributes:
        prepare: makes a batch of the data loader ready.
        describe: names the records of a batch whose loss is not finite, and says how to look at them.
    """

    prepare: Callable[[Batch], Part]
    describe: Callable[[list[int]], str] = name_records


@dataclass
class LossLog:
    """Losses since they were last read, with the ids of the records behind each."""

    describe: Callable[[list[int]], str] = name_records
    losses: list[torch.Tensor] = field(default_factory=list)
    ids: list[torch.Tensor] = field(default_factory=list)

    def add(self, loss: torch.Tensor, ids: torch.Tensor) -> None:
        """Keep one backward pass's loss without waiting for it."""
        self.losses.append(loss.detach())
        self.ids.append(ids)

    def read(self, processes: Processes) -> float:
        """Return the mean loss since the last reading, over all processes, and forget it.

        Raises:
            TrainingError: a loss is not finite; names the records of its batch.
        """
        losses = torch.stack(self.losses)
        mean = float(mean_over_processes(losses.mean(), processes))
        if not math.isfinite(mean):
            bad = torch.nonzero(~losses.isfinite().cpu()).flatten().tolist()
            ids = [
                identity
                for found in gather([self.ids[row].tolist() for row in bad[:1]], processes)
                for identity in found
            ]
            raise TrainingError(
                f"the loss is not finite ({mean}) on {self.describe(ids[0] if ids else [])}, lower "
                "train.learning_rate, or set train.gradient_clip"
            )
        self.losses.clear()
        self.ids.clear()
        return mean


def learning_rate(options: OptimisationConfig, epoch: float, global_step: int) -> float:
    """Return the learning rate after ``epoch`` epochs (with its fraction) and ``global_step`` steps."""
    factor = (
        cosine_decay(epoch, options.epochs)
        if options.schedule == "cosine"
        else step_decay(epoch, options.milestones, options.decay)
    )
    return options.learning_rate * factor * warmup(global_step, options.warmup_steps)


@dataclass(frozen=True)
class StepReport:
    """What a step is worth telling: the mean loss since the last report, the rate used, seconds waited for data."""

    loss: float | None
    learning_rate: float
    wait_seconds: float


def train_steps(
    training: Training[Any],
    net: nn.Module,
    batches: Iterator[Batch],
    objective: Objective[Batch],
    steps: int,
    options: OptimisationConfig,
    processes: Processes,
) -> Iterator[StepReport]:
    """Train the rest of an epoch, one report a step; ``training.progress`` moves with it.

    Args:
        training: state to change.
        net: ``training.net``, wrapped for its processes or compiled.
        batches: ``options.accumulate`` a step.
        objective: what to minimise on them.
        steps: steps in the whole epoch.
        options: the optimisation.
        processes: this process among its equals.

    Raises:
        TrainingError: a loss is not finite.
    """
    log = LossLog(objective.describe)
    progress = training.progress
    backbone_and_rest = ((options.backbone_learning_rate or options.learning_rate) / options.learning_rate, 1.0)
    read_every = CHECK_STEPS if processes.device.type == "cuda" else 1
    while progress.step < steps:
        rate = learning_rate(options, progress.epoch + progress.step / steps, progress.global_step)
        for group, share in zip(training.optimizer.param_groups, backbone_and_rest, strict=True):
            group["lr"] = rate * share
        wait = 0.0
        for part in range(options.accumulate):
            asked = time.perf_counter()
            batch = next(batches)
            wait += time.perf_counter() - asked
            last = part == options.accumulate - 1
            _backward(training, net, objective.prepare(batch), options, processes, log, last)
        mean = log.read(processes) if len(log.losses) >= read_every * options.accumulate else None
        _update(training, options)
        progress.step += 1
        progress.global_step += 1
        progress.samples += options.batch_size
        if mean is None and progress.step == steps:
            mean = log.read(processes)
        yield StepReport(mean, rate, wait)


def _backward(
    training: Training[Any],
    net: nn.Module,
    part: Part,
    options: OptimisationConfig,
    processes: Processes,
    log: LossLog,
    last: bool,
) -> None:
    device = processes.device
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    images = part.images.contiguous(memory_format=layout)
    autocast = torch.autocast(
        device.type, AUTOCAST_TYPES.get(options.precision, torch.bfloat16), enabled=options.precision != "fp32"
    )
    # Gradients travel between processes once a step, with the last part.
    hold = isinstance(net, DistributedDataParallel) and not last
    with net.no_sync() if hold else contextlib.nullcontext():  # type: ignore[operator]
        with autocast:
            outputs = net(images)
        loss = part.loss(outputs)
        log.add(loss, part.ids)
        training.scaler.scale(loss / options.accumulate).backward()


def _update(training: Training[Any], options: OptimisationConfig) -> None:
    if options.gradient_clip is not None:
        training.scaler.unscale_(training.optimizer)
        nn.utils.clip_grad_norm_(training.net.parameters(), options.gradient_clip)
    training.scaler.step(training.optimizer)
    training.scaler.update()
    training.optimizer.zero_grad(set_to_none=True)
    if training.ema is not None:
        training.ema.update(training.net, training.progress.global_step)
