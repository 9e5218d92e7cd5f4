"""A training run: its folder, its log, and the loop over epochs."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

import torch

from pose.config import Config
from pose.config_files import dump
from pose.config_tree import flatten
from pose.datasets.coco import annotated_persons
from pose.datasets.loading import EpochSampler, batches, training_loader
from pose.datasets.samples import PoseSample, TrainingSamples
from pose.engine.checkpoint import Training, load_checkpoint, save_checkpoint
from pose.engine.distributed import Processes, broadcast_buffers, distribute, from_main
from pose.engine.ema import MovingAverage
from pose.engine.pose import train_steps
from pose.engine.run_log import Meter, RunLog
from pose.engine.schedules import temperature
from pose.engine.start import CALIBRATION_PERSONS, calibrate_batch_norm, load_start
from pose.engine.testing import TestSet, load_test_set, make_results, predict_persons, score_results
from pose.errors import CheckpointError
from pose.inference import normalize
from pose.models import build_backbone, build_pose_net
from pose.models.dynamic_conv import set_temperature
from pose.progress import ProgressLine

logger = logging.getLogger(__name__)

STATIC = {"dynamic_backbone": False, "dynamic_last": False}


def runs_folder(config: Config) -> Path:
    """Return the folder of all runs of a config: ``runs/<config name>``."""
    return Path("runs") / config.name


def new_run_folder(config: Config) -> Path:
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
class Run:
    """What stays the same during a run."""

    config: Config
    folder: Path
    processes: Processes
    test_set: TestSet
    log: RunLog


def train(config: Config, folder: Path, processes: Processes, resume: Path | None = None) -> float:
    """Train a pose net and return the best validation AP.

    Args:
        config: the experiment.
        folder: of the run; gets the resolved config, ``metrics.jsonl``, TensorBoard events, ``train.log``, ``last.pt``
            and ``best.pt``.
        processes: this process among its equals.
        resume: checkpoint to go on from.

    Raises:
        DataError: the data cannot be used.
        CheckpointError: the checkpoint does not fit.
        TrainingError: the loss is not finite.
    """
    torch.manual_seed(config.seed)
    skeleton, data, options = config.keypoints, config.data, config.train
    persons = annotated_persons(data.root / data.train_annotations, data.root / data.train_images, skeleton)
    test_set = load_test_set(config, ground_truth=options.validate_boxes == "ground_truth")
    sampler = EpochSampler(
        len(persons), options.batch_size, options.accumulate, processes.rank, processes.count, config.seed
    )
    samples = TrainingSamples(persons, skeleton, config.input, config.augment, config.seed)
    loader = training_loader(samples, sampler, options.workers, pin_memory=processes.device.type == "cuda")
    training, net = _build(config, processes, samples if resume is None else None)
    if resume is not None:
        _resume(training, config, resume)
    if processes.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(dump(config), encoding="utf-8")
    run = Run(config, folder, processes, test_set, RunLog(folder, processes.is_main))
    logger.info(
        "%s: %d persons, global batch %d (%d processes x %d parts x %d), %d steps an epoch, %s, device %s",
        config.name, len(persons), options.batch_size, processes.count, options.accumulate,
        options.batch_size // processes.count // options.accumulate, sampler.steps, options.precision,
        processes.device,
    )  # fmt: skip
    try:
        while training.progress.epoch < options.epochs:
            progress = training.progress
            tau = temperature(
                progress.epoch, options.temperature, options.temperature_final, options.temperature_epochs
            )
            for module in {training.net, training.best_net}:
                set_temperature(module, tau)
            sampler.start(progress.epoch, progress.step)
            _train_epoch(run, training, net, batches(loader), sampler.steps, tau)
            progress.epoch, progress.step = progress.epoch + 1, 0
            due = progress.epoch % options.validate_every == 0 or progress.epoch == options.epochs
            best = due and _validate(run, training)
            if processes.is_main:
                # best.pt first: a run stopped between the two repeats the epoch and finds it best again.
                for name in ("best.pt", "last.pt") if best else ("last.pt",):
                    save_checkpoint(training, config, folder / name)
    finally:
        run.log.close()
    return training.progress.best_score


def _build(config: Config, processes: Processes, samples: TrainingSamples | None) -> tuple[Training, torch.nn.Module]:
    """Make all that training changes; ``samples`` are given where the weights that a run starts with are wanted."""
    options = config.train
    raw = build_pose_net(config)
    if options.start is not None and samples is not None:
        static = build_backbone(config.model.model_copy(update=STATIC), options.temperature)
        if load_start(raw, options.start, static):
            persons = range(min(CALIBRATION_PERSONS, len(samples)))
            crops = torch.stack([samples[0, row].image for row in persons])
            # A new head's batch norm must keep bringing its signals to scale, where it would be made to leave them be.
            calibrate_batch_norm(raw.backbone, normalize(crops))
    raw.to(processes.device)
    if options.channels_last:
        to_channels_last(raw)
    net = distribute(raw, processes, options.sync_batch_norm)
    # With no weight decay AdamW is Adam.
    optimizer = torch.optim.AdamW(
        [{"params": list(part.parameters())} for part in (raw.backbone, raw.head)],
        options.learning_rate,
        weight_decay=options.weight_decay,
        fused=processes.device.type in ("cpu", "cuda") or None,
    )
    scaler = torch.amp.GradScaler(processes.device.type, enabled=options.precision == "fp16")
    ema = MovingAverage(raw, options.ema_decay) if options.ema_decay else None
    if options.compile:
        net = cast(torch.nn.Module, torch.compile(net))
    return Training(raw, optimizer, scaler, ema), net


def to_channels_last(net: torch.nn.Module) -> None:
    """Lay a net's 4-D weights out as NHWC; `Module.to` would stumble over the 5-D kernels of dynamic convolution."""
    for weight in net.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def _resume(training: Training, config: Config, path: Path) -> None:
    saved = load_checkpoint(training, path).model_dump(mode="json")
    progress = training.progress
    logger.info("resumed %s after %d epochs and %d steps", path, progress.epoch, progress.step)
    before = dict(flatten(saved))
    for key, value in flatten(config.model_dump(mode="json")):
        if key != "name" and value != before.get(key):
            logger.warning("%s is now %s, the checkpoint was written with %s", key, value, before.get(key))


def _train_epoch(
    run: Run, training: Training, net: torch.nn.Module, parts: Iterator[PoseSample], steps: int, tau: float
) -> None:
    net.train()
    progress, options = training.progress, run.config.train
    meter = Meter(progress.samples)
    saved = time.monotonic()
    with ProgressLine(f"epoch {progress.epoch + 1}/{options.epochs}", steps, "steps", progress.step) as line:
        for report in train_steps(training, net, parts, steps, options, run.processes):
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
                    save_checkpoint(training, run.config, run.folder / "last.pt")


def _validate(run: Run, training: Training) -> bool:
    """Evaluate the net, log it, and return whether it is the best so far."""
    net, progress = training.best_net, training.progress
    broadcast_buffers(net, run.processes)
    was_training = net.training
    net.eval()
    predictions = predict_persons(
        net.heatmaps, run.test_set.persons, run.config, run.processes, run.config.train.workers
    )
    net.train(was_training)
    metrics = None
    if run.processes.is_main:
        metrics = score_results(make_results(predictions, run.test_set, run.config), run.test_set, run.config)
    metrics = from_main(metrics, run.processes)
    assert metrics is not None
    figures = {name: value for name, value in metrics.as_dict().items() if isinstance(value, float)}
    run.log.write("validation", progress.samples, {"epoch": progress.epoch, **figures, "seconds": progress.seconds})
    logger.info(
        "epoch %d, %d samples: AP %.3f AP50 %.3f (%s)",
        progress.epoch, progress.samples, metrics.AP, metrics.AP50, run.test_set.boxes,
    )  # fmt: skip
    best = progress.best_score < metrics.AP
    progress.best_score = max(progress.best_score, metrics.AP)
    return best
