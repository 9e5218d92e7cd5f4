"""The training loop of every task: steps, epochs, validation, checkpoints.

A task (`pose.engine.pose_task`, `pose.engine.classification_task`) gives it a model, a data loader, a loss function
and a validation function.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from pose.config.base import OptimizationConfig
from pose.config.loader import AnyConfig, dump
from pose.datasets.loading import EpochSampler, training_loader
from pose.datasets.loading import batches as iterate_batches
from pose.engine.checkpoint import resume as resume_checkpoint
from pose.engine.checkpoint import save_checkpoint
from pose.engine.distributed import DistContext, all_gather, all_reduce_mean, barrier, broadcast_buffers, seed_step
from pose.engine.interruption import StopSignals, log_interruption
from pose.engine.metrics_log import EpochLog, MetricsLog, RunClock, Validation
from pose.engine.schedules import initial_learning_rates, learning_rate, temperature
from pose.engine.state import TrainState
from pose.errors import TrainingError
from pose.files import write_text
from pose.images import Image
from pose.inference.pytorch import normalize
from pose.models.kernel_attention import set_temperature

logger = logging.getLogger(__name__)

LossFn = Callable[[nn.Module, Any], tuple[Tensor, Tensor]]
"""Called with the model and a batch of the data loader; returns the mean loss and the record ids (B,) of the batch."""

AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
CHECK_STEPS = 20
"""Steps between two checks of the loss on a GPU, where each check waits for the device. On a CPU every step."""


def describe_ids(ids: list[int]) -> str:
    """Describe the records of a batch by their ids, for error messages."""
    return f"the records {ids}"


def train_one_epoch(
    state: TrainState,
    batches: Iterator[Any],
    loss_fn: LossFn,
    steps: int,
    options: OptimizationConfig,
    dist: DistContext,
    log: EpochLog,
    checkpoint: Callable[[], None] | None = None,
    describe: Callable[[list[int]], str] = describe_ids,
    seed: int = 0,
) -> None:
    """Train the remaining steps of an epoch.

    After Ctrl-C or SIGTERM of any rank the step is finished and saved, then the exception is raised.

    Args:
        state: changed in place; ``state.progress`` counts the steps.
        batches: ``options.accumulate`` for each step.
        loss_fn: see `LossFn`.
        steps: number of steps of the whole epoch.
        options: optimization options.
        dist: rank, world size and device.
        log: receives loss and learning rate of every step.
        checkpoint: saves a checkpoint; called every ``options.checkpoint_minutes`` and after the last step.
        describe: describes the records of a batch, by their ids, for the error message.
        seed: of the random numbers of dropout and mixup, which are a function of (seed, step, rank).

    Raises:
        TrainingError: a loss is not finite; raised before the weight update of the checked step.
    """
    model, scaler, progress = state.wrapped_model, state.scaler, state.progress
    model.train()
    pending: list[tuple[Tensor, Tensor]] = []  # loss and ids of the backward passes since the last check
    last_checkpoint = time.monotonic()
    with StopSignals() as stop:
        while progress.step < steps:
            seed_step(seed, progress.global_step, dist)
            rate = _set_learning_rate(state, options, steps)
            for part in range(options.accumulate):
                batch = log.next_batch(batches)
                with _gradient_exchange(model, part == options.accumulate - 1):
                    with _autocast(options, dist):
                        loss, ids = loss_fn(model, batch)
                    scaler.scale(loss / options.accumulate).backward()
                pending.append((loss.detach(), ids))
            mean_loss, stopping = None, False
            if dist.device.type != "cuda" or (progress.step + 1) % CHECK_STEPS == 0 or progress.step + 1 == steps:
                mean_loss, stopping = _check_losses(pending, describe, dist, stop.received is not None)
                pending.clear()
            _update_weights(state, options)
            progress.step += 1
            progress.global_step += 1
            progress.samples += options.batch_size
            log.step(mean_loss, rate)
            due = time.monotonic() - last_checkpoint > 60 * options.checkpoint_minutes
            # Only after a loss was found finite, so that a broken checkpoint never replaces a good one.
            if mean_loss is not None and checkpoint is not None and (due or stopping or progress.step == steps):
                last_checkpoint = time.monotonic()
                checkpoint()
            if stopping:
                barrier(dist)  # the others wait until rank 0 has saved
                raise stop.interruption()


def train(
    state: TrainState,
    loader: DataLoader[Any],
    loss_fn: LossFn,
    validate: Callable[[Any], Validation],
    config: AnyConfig,
    folder: Path,
    dist: DistContext,
    resume: Path | None = None,
    draw_batch: Callable[[list[tuple[int, int]]], Image] | None = None,
) -> float:
    """Train, validate and save checkpoints until the last epoch; return the best validation score.

    Args:
        state: made by `pose.engine.state.make_state`.
        loader: made by `make_loader`; its data set describes itself (``str``) and its records (``describe``).
        loss_fn: see `LossFn`.
        validate: evaluates a model in evaluation mode; every rank gets the whole result.
        config: config of the experiment.
        folder: run folder; receives the resolved config, ``metrics.jsonl``, TensorBoard events, images, ``last.pt`` and
            ``best.pt``.
        dist: rank, world size and device.
        resume: checkpoint to resume.
        draw_batch: draws the samples with the given (epoch, row) keys, for ``train_batch.jpg``.

    Raises:
        DataError: the data cannot be used.
        CheckpointError: the checkpoint does not match the model or the optimizer.
        TrainingError: the loss is not finite.
    """
    options, dataset = config.train, cast(Any, loader.dataset)
    sampler = cast(EpochSampler, loader.batch_sampler)
    if resume is not None:
        resume_checkpoint(state, config, resume)
    if dist.is_main:
        write_text(folder / "config.yaml", dump(config))
    progress, save_last = state.progress, partial(save_checkpoint, state, config, folder / "last.pt")
    logger.info(
        "%s: %s, global batch %d (%d processes x %d parts x %d), %d steps an epoch, %s, device %s",
        config.name, dataset, options.batch_size, dist.world_size, options.accumulate,
        options.batch_size // dist.world_size // options.accumulate, sampler.steps, options.precision, dist.device,
    )  # fmt: skip
    clock = RunClock(options.epochs, progress.epoch + progress.step / sampler.steps)
    with log_interruption(folder / "last.pt", dist), MetricsLog(folder, dist.is_main) as metrics_log:
        if draw_batch is not None and dist.is_main and progress.epoch < options.epochs:
            sampler.start(progress.epoch)
            metrics_log.write_images(progress.samples, {"train_batch": draw_batch(next(iter(sampler)))})
        while progress.epoch < options.epochs:
            tau = temperature(
                progress.epoch, options.temperature, options.temperature_final, options.temperature_epochs
            )
            for model in {state.model, state.best_model}:
                set_temperature(model, tau)
            sampler.start(progress.epoch, progress.step)
            with EpochLog(metrics_log, progress, clock, sampler.steps, tau) as log:
                train_one_epoch(
                    state, iterate_batches(loader), loss_fn, sampler.steps, options, dist, log,
                    save_last if dist.is_main else None, dataset.describe, config.seed,
                )  # fmt: skip
            progress.epoch, progress.step = progress.epoch + 1, 0
            is_best = False
            if progress.epoch % options.validate_every == 0 or progress.epoch == options.epochs:
                is_best = _validate(state, validate, metrics_log, dist, options.warmup_steps)
            if dist.is_main:
                # best.pt first: a run that stops between the two repeats the epoch and writes best.pt again.
                if is_best:
                    save_checkpoint(state, config, folder / "best.pt")
                save_last()
    return progress.best_score


def make_loader(
    dataset: Any, options: OptimizationConfig, dist: DistContext, seed: int, unit: str = "persons"
) -> DataLoader[Any]:
    """Return the training data loader of this rank.

    Args:
        dataset: indexed by (epoch, row).
        options: optimization options.
        dist: rank, world size and device.
        seed: seed of the sample order.
        unit: name of the rows in error messages.

    Raises:
        ConfigError: ranks and accumulation steps do not divide the batch, or it is larger than the data set.
    """
    sampler = EpochSampler(len(dataset), options.batch_size, options.accumulate, dist.rank, dist.world_size, seed, unit)
    return training_loader(dataset, sampler, options.workers, pin_memory=dist.device.type == "cuda")


def prepare_images(images_rgb: Tensor, options: OptimizationConfig, device: torch.device) -> Tensor:
    """Return normalized (B, 3, H, W) images on a device, in training's memory layout, from (B, H, W, 3) uint8 RGB."""
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    return normalize(images_rgb.to(device, non_blocking=True)).contiguous(memory_format=layout)


def _set_learning_rate(state: TrainState, options: OptimizationConfig, steps: int) -> float:
    """Set the learning rates of the parameter groups for the next step; return the head's."""
    progress = state.progress
    rate = learning_rate(options, progress.epoch + progress.step / steps, progress.global_step)
    for group, initial_rate in zip(state.optimizer.param_groups, initial_learning_rates(options), strict=True):
        group["lr"] = rate * (initial_rate / options.learning_rate)
    return rate


def _gradient_exchange(model: nn.Module, enabled: bool) -> contextlib.AbstractContextManager[None]:
    """Return a context whose backward pass exchanges gradients between ranks only if ``enabled`` (once per step)."""
    if isinstance(model, DistributedDataParallel) and not enabled:
        return cast(contextlib.AbstractContextManager[None], model.no_sync())
    return contextlib.nullcontext()


def _autocast(options: OptimizationConfig, dist: DistContext) -> torch.autocast:
    dtype = AUTOCAST_TYPES.get(options.precision, torch.bfloat16)
    return torch.autocast(dist.device.type, dtype, enabled=options.precision != "fp32")


def _check_losses(
    pending: list[tuple[Tensor, Tensor]],
    describe: Callable[[list[int]], str],
    dist: DistContext,
    stop: bool = False,
) -> tuple[float, bool]:
    """Return the mean loss over all ranks, and whether a rank wants to stop.

    Raises:
        TrainingError: a loss is not finite; the message names the records of its batch.
    """
    losses = torch.stack([loss for loss, _ in pending])
    own = torch.stack([losses.float().mean(), losses.new_tensor(stop, dtype=torch.float32)])
    mean, stopping = all_reduce_mean(own, dist).tolist()
    if not math.isfinite(mean):
        broken = torch.nonzero(~losses.isfinite().cpu()).flatten().tolist()
        broken_ids = [
            ids for rank in all_gather([pending[row][1].tolist() for row in broken[:1]], dist) for ids in rank
        ]
        raise TrainingError(
            f"the loss is not finite ({mean}) on {describe(broken_ids[0] if broken_ids else [])}, lower "
            "train.learning_rate, or set train.gradient_clip"
        )
    return mean, stopping > 0


def _update_weights(state: TrainState, options: OptimizationConfig) -> None:
    if options.gradient_clip is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), options.gradient_clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        state.ema.update(state.model, state.progress.global_step)


def _validate(
    state: TrainState,
    validate: Callable[[Any], Validation],
    metrics_log: MetricsLog,
    dist: DistContext,
    warmup_steps: int,
) -> bool:
    """Validate and log the metrics; return whether the score is the best so far."""
    model, progress = state.best_model, state.progress
    broadcast_buffers(model, dist)
    was_training = model.training
    result = validate(model.eval())
    model.train(was_training)
    metrics_log.write(
        "validation", progress.samples, {"epoch": progress.epoch, **result.metrics, "seconds": progress.seconds}
    )
    metrics_log.write_images(progress.samples, result.images)
    logger.info("epoch %d, %d samples: %s", progress.epoch, progress.samples, result.summary)
    if result.score <= 0 and progress.global_step <= warmup_steps:
        logger.info("learning rate warm-up is not over: step %d of %d", progress.global_step, warmup_steps)
    is_best = progress.best_score < result.score
    progress.best_score = max(progress.best_score, result.score)
    return is_best
