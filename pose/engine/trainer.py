"""A training run of any task: its folder, its log, and the loop over epochs.

A task (`pose.engine.pose_task`, `pose.engine.classification_task`) brings its data, model, loss and validation as a `Task`.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from pose.cli import NEWEST
from pose.config.base import ExperimentConfig, OptimizationConfig
from pose.config.loader import dump
from pose.config.tree import flatten
from pose.datasets.loading import EpochSampler, batches
from pose.engine.checkpoint import Model, Training, load_checkpoint, save_checkpoint
from pose.engine.distributed import (
    DistContext,
    barrier,
    broadcast_buffers,
    broadcast_object,
    distribute,
    gather,
    init_distributed,
    mean_over_processes,
)
from pose.engine.ema import MovingAverage
from pose.engine.metrics_log import Meter, RunLog, start_logging
from pose.engine.schedules import cosine_decay, step_decay, temperature, warmup
from pose.errors import CheckpointError, TrainingError
from pose.models.dynamic_conv import set_temperature
from pose.progress import ProgressLine

logger = logging.getLogger(__name__)

Batch = TypeVar("Batch")


AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
CHECK_STEPS = 20
"""On a GPU losses are read this often only, because each reading waits for the device."""


class Part(NamedTuple):
    """A batch made ready for one backward pass, on the process's device."""

    images: torch.Tensor
    """(B, 3, H, W) normalized."""
    loss: Callable[[torch.Tensor], torch.Tensor]
    """The mean loss of what the model makes of them."""
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

    def read(self, processes: DistContext) -> float:
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


def learning_rate(options: OptimizationConfig, epoch: float, global_step: int) -> float:
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
    model: nn.Module,
    batches: Iterator[Batch],
    objective: Objective[Batch],
    steps: int,
    options: OptimizationConfig,
    processes: DistContext,
) -> Iterator[StepReport]:
    """Train the rest of an epoch, one report a step; ``training.progress`` moves with it.

    Args:
        training: state to change.
        model: ``training.net``, wrapped for its processes or compiled.
        batches: ``options.accumulate`` a step.
        objective: what to minimise on them.
        steps: steps in the whole epoch.
        options: the optimization.
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
            _backward(training, model, objective.prepare(batch), options, processes, log, last)
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
    model: nn.Module,
    part: Part,
    options: OptimizationConfig,
    processes: DistContext,
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
    hold = isinstance(model, DistributedDataParallel) and not last
    with model.no_sync() if hold else contextlib.nullcontext():  # type: ignore[operator]
        with autocast:
            outputs = model(images)
        loss = part.loss(outputs)
        log.add(loss, part.ids)
        training.scaler.scale(loss / options.accumulate).backward()


def _update(training: Training[Any], options: OptimizationConfig) -> None:
    if options.gradient_clip is not None:
        training.scaler.unscale_(training.optimizer)
        nn.utils.clip_grad_norm_(training.model.parameters(), options.gradient_clip)
    training.scaler.step(training.optimizer)
    training.scaler.update()
    training.optimizer.zero_grad(set_to_none=True)
    if training.ema is not None:
        training.ema.update(training.model, training.progress.global_step)


logger = logging.getLogger(__name__)


def runs_folder(config: ExperimentConfig) -> Path:
    """Return the folder of all runs of a config: ``runs/<config name>``."""
    return Path("runs") / config.name


def new_run_folder(config: ExperimentConfig) -> Path:
    """Return the path of a run that starts now: ``runs/<config name>/<time>``."""
    return runs_folder(config) / datetime.now().strftime("%Y%m%d-%H%M%S")


def find_last(folder: Path) -> Path:
    """Return the newest ``last.pt`` below a folder of runs.

    Raises:
        CheckpointError: there is none.
    """
    found = sorted(folder.rglob("last.pt"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise CheckpointError(f"{folder}: no run to resume (no last.pt); start one without --resume")
    return found[-1]


def check_run_folder(folder: Path, resume: Path | None) -> None:
    """Refuse to write a new run over another's checkpoints.

    Raises:
        CheckpointError: the folder holds a ``last.pt`` that is not being resumed.
    """
    if resume is None and (folder / "last.pt").exists():
        raise CheckpointError(
            f"{folder}: holds a run already; give --resume {folder / 'last.pt'} to go on with it, or another --run-dir"
        )


@dataclass(frozen=True)
class Validation:
    """How good a model is.

    Attributes:
        score: the larger the better; decides which weights are the best.
        figures: by their names, for the log.
        words: one line for people.
    """

    score: float
    figures: Mapping[str, float]
    words: str


@dataclass(frozen=True)
class Task(Generic[Model, Batch]):
    """What is trained, and how it is judged.

    Attributes:
        config: the experiment.
        options: its ``train`` section.
        training: all state that training changes.
        model: ``training.net``, wrapped for its processes or compiled.
        sampler: of the loader.
        loader: of training batches.
        records: what the data set has, such as "149813 persons".
        objective: what is minimised.
        validate: judges a model in evaluation mode; every process gets the whole.
    """

    config: ExperimentConfig
    options: OptimizationConfig
    training: Training[Model]
    model: nn.Module
    sampler: EpochSampler
    loader: DataLoader[Batch]
    records: str
    objective: Objective[Batch]
    validate: Callable[[Model], Validation]


def make_training(
    raw: Model,
    parts: tuple[nn.Module, nn.Module],
    options: OptimizationConfig,
    processes: DistContext,
    make_optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
) -> tuple[Training[Model], nn.Module]:
    """Make all that training changes, and the model as it runs on its processes.

    Args:
        raw: the model; moved to the device.
        parts: its backbone and its head, which may learn at different rates.
        options: the optimization.
        processes: this process among its equals.
        make_optimizer: of two groups of weights.
    """
    raw.to(processes.device)
    if options.channels_last:
        to_channels_last(raw)
    model = distribute(raw, processes, options.sync_batch_norm, options.accumulate)
    optimizer = make_optimizer([{"params": list(part.parameters())} for part in parts])
    scaler = torch.amp.GradScaler(processes.device.type, enabled=options.precision == "fp16")
    ema = MovingAverage(raw, options.ema_decay) if options.ema_decay else None
    if options.compile:
        model = cast(nn.Module, torch.compile(model))
    return Training(raw, optimizer, scaler, ema), model


def to_channels_last(model: nn.Module) -> None:
    """Lay a model's 4-D weights out as NHWC; `Module.to` would stumble over the 5-D kernels of dynamic convolution."""
    for weight in model.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class _Run(Generic[Model, Batch]):
    """What stays the same during a run."""

    task: Task[Model, Batch]
    folder: Path
    processes: DistContext
    log: RunLog


def run_epochs(task: Task[Model, Batch], folder: Path, processes: DistContext, resume: Path | None = None) -> float:
    """Train and return the best validation score.

    Args:
        task: what to train.
        folder: of the run; gets the resolved config, ``metrics.jsonl``, TensorBoard events, ``train.log``, ``last.pt``
            and ``best.pt``.
        processes: this process among its equals.
        resume: checkpoint to go on from.

    Raises:
        DataError: the data cannot be used.
        CheckpointError: the checkpoint does not fit.
        TrainingError: the loss is not finite.
    """
    config, options, training, sampler = task.config, task.options, task.training, task.sampler
    if resume is not None:
        _resume(training, config, resume)
    if processes.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(dump(config), encoding="utf-8")
    run = _Run(task, folder, processes, RunLog(folder, processes.is_main))
    logger.info(
        "%s: %s, global batch %d (%d processes x %d parts x %d), %d steps an epoch, %s, device %s",
        config.name, task.records, options.batch_size, processes.count, options.accumulate,
        options.batch_size // processes.count // options.accumulate, sampler.steps, options.precision,
        processes.device,
    )  # fmt: skip
    try:
        while training.progress.epoch < options.epochs:
            progress = training.progress
            tau = temperature(
                progress.epoch, options.temperature, options.temperature_final, options.temperature_epochs
            )
            for module in {training.model, training.best_model}:
                set_temperature(module, tau)
            sampler.start(progress.epoch, progress.step)
            _train_epoch(run, batches(task.loader), tau)
            progress.epoch, progress.step = progress.epoch + 1, 0
            due = progress.epoch % options.validate_every == 0 or progress.epoch == options.epochs
            best = due and _validate(run)
            if processes.is_main:
                # best.pt first: a run stopped between the two repeats the epoch and finds it best again.
                for name in ("best.pt", "last.pt") if best else ("last.pt",):
                    save_checkpoint(training, config, folder / name)
    finally:
        run.log.close()
    return training.progress.best_score


def _resume(training: Training[Any], config: ExperimentConfig, path: Path) -> None:
    saved = load_checkpoint(training, path).model_dump(mode="json")
    progress = training.progress
    logger.info("resumed %s after %d epochs and %d steps", path, progress.epoch, progress.step)
    before = dict(flatten(saved))
    for key, value in flatten(config.model_dump(mode="json")):
        if key != "name" and value != before.get(key):
            logger.warning("%s is now %s, the checkpoint was written with %s", key, value, before.get(key))


def _train_epoch(run: _Run[Model, Batch], parts: Iterator[Batch], tau: float) -> None:
    training, options, steps = run.task.training, run.task.options, run.task.sampler.steps
    run.task.model.train()
    progress = training.progress
    meter = Meter(progress.samples)
    saved = time.monotonic()
    with ProgressLine(f"epoch {progress.epoch + 1}/{options.epochs}", steps, "steps", progress.step) as line:
        for report in train_steps(training, run.task.model, parts, run.task.objective, steps, options, run.processes):
            progress.seconds += meter.add(report, progress.samples)
            line.advance(1, **meter.shown(), tau=f"{tau:g}")
            if meter.due or progress.step == steps:
                figures = meter.read()
                figures |= {"epoch": progress.epoch + progress.step / steps, "temperature": tau}
                run.log.write("train", progress.samples, figures | {"seconds": progress.seconds})
            # Only just after a loss was found finite, so that a good checkpoint is never replaced by a broken one.
            if report.loss is not None and time.monotonic() - saved > 60 * options.checkpoint_minutes:
                saved = time.monotonic()
                if run.processes.is_main:
                    save_checkpoint(training, run.task.config, run.folder / "last.pt")


def _validate(run: _Run[Model, Batch]) -> bool:
    """Evaluate the model, log it, and return whether it is the best so far."""
    model, progress = run.task.training.best_model, run.task.training.progress
    broadcast_buffers(model, run.processes)
    was_training = model.training
    model.eval()
    found = run.task.validate(model)
    model.train(was_training)
    figures = {"epoch": progress.epoch, **found.figures, "seconds": progress.seconds}
    run.log.write("validation", progress.samples, figures)
    logger.info("epoch %d, %d samples: %s", progress.epoch, progress.samples, found.words)
    best = progress.best_score < found.score
    progress.best_score = max(progress.best_score, found.score)
    return best


Train = Callable[[Path, DistContext, Path | None], float]
"""Called with the run's folder, the processes, and the checkpoint to resume; returns the best validation score."""


def launch(
    config: ExperimentConfig,
    train: Train,
    prepare: Callable[[], None],
    score: str,
    resume: Path | None = None,
    run_dir: Path | None = None,
    device: str | None = None,
) -> None:
    """Train in this process and its equals.

    Args:
        config: names the run.
        train: what each process does.
        prepare: what the first process does before.
        score: what the best validation score is, such as "AP".
        resume: checkpoint, folder of runs, or `NEWEST`: of this config's runs.
        run_dir: folder of the run; by default that of the checkpoint, or a new one.
        device: ``"cpu"``, ``"cuda"``, ...; by default a GPU where there is one.

    Raises:
        CheckpointError: there is nothing to resume, or the folder holds another run.
    """
    with init_distributed(device) as processes:
        if resume == NEWEST:
            resume = find_last(runs_folder(config))
        elif resume is not None and resume.is_dir():
            resume = find_last(resume)
        folder = run_dir or (resume.parent if resume else new_run_folder(config))
        folder = broadcast_object(folder, processes)
        if processes.is_main:
            check_run_folder(folder, resume)
            prepare()
        barrier(processes)
        start_logging(folder if processes.is_main else None)
        best = train(folder, processes, resume)
        logger.info("best validation %s %.3f; weights in %s", score, best, folder / "best.pt")
