"""Training a pose model: its data, its loss, and its validation by AP; the run itself is `pose.engine.trainer`'s."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from pose.config.pose import Config, TrainConfig
from pose.datasets.coco import annotated_persons
from pose.datasets.crop_cache.file import make_stamp, open_crop_cache
from pose.datasets.loading import EpochSampler, training_loader
from pose.datasets.samples import PoseSample, TrainingSamples
from pose.engine.distributed import DistContext, broadcast_object
from pose.engine.evaluate import TestSet, load_test_set, make_results, predict_persons, score_results
from pose.engine.initialize import initialize_weights
from pose.engine.losses import LOSSES
from pose.engine.trainer import Objective, Part, Task, Validation, make_training, run_epochs
from pose.inference.pytorch import normalize
from pose.models import build_pose_net
from pose.models.pose_net import PoseNet


def train(config: Config, folder: Path, processes: DistContext, resume: Path | None = None) -> float:
    """Train a pose model and return the best validation AP; the arguments and errors are `run_epochs`'s."""
    torch.manual_seed(config.seed)
    options = config.train
    samples = training_samples(config)
    test_set = load_test_set(config, ground_truth=options.validate_boxes == "ground_truth")
    sampler = EpochSampler(
        len(samples), options.batch_size, options.accumulate, processes.rank, processes.count, config.seed
    )
    loader = training_loader(samples, sampler, options.workers, pin_memory=processes.device.type == "cuda")
    raw = build_pose_net(config)
    if options.start is not None and resume is None:
        initialize_weights(raw, options.start, config.model, samples)
    training, net = make_training(
        raw, (raw.backbone, raw.head), options, processes, partial(_adam, options, processes.device)
    )
    objective = pose_objective(options, processes.device)
    validate = partial(_validate, test_set, config, processes)
    records = f"{len(samples)} persons{'' if samples.crops is None else f', crops of {samples.crops.path}'}"
    task = Task(config, options, training, net, sampler, loader, records, objective, validate)
    return run_epochs(task, folder, processes, resume)


def training_samples(config: Config) -> TrainingSamples:
    """Return the training persons of a config as augmented samples, from its crop cache if it names one.

    Raises:
        DataError: a file is missing or cannot be used, or the crop cache was built for other data or options.
    """
    data, skeleton = config.data, config.keypoints
    persons = annotated_persons(data.root / data.train_annotations, data.root / data.train_images, skeleton)
    crops = None
    if data.crop_cache is not None:
        crops = open_crop_cache(
            data.root / data.crop_cache, make_stamp(persons, skeleton, config.input, config.augment)
        )
    return TrainingSamples(persons, skeleton, config.input, config.augment, config.seed, crops)


def _adam(options: TrainConfig, device: torch.device, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    # With no weight decay AdamW is Adam.
    return torch.optim.AdamW(
        groups,
        options.learning_rate,
        weight_decay=options.weight_decay,
        fused=device.type in ("cpu", "cuda") or None,
    )


def pose_objective(options: TrainConfig, device: torch.device) -> Objective[PoseSample]:
    """Return the loss on heatmaps that ``options.loss`` names."""
    loss = LOSSES[options.loss]

    def prepare(batch: PoseSample) -> Part:
        images = normalize(batch.image.to(device, non_blocking=True))
        heatmaps = batch.heatmaps.to(device, non_blocking=True)
        weights = batch.weights.to(device, non_blocking=True)
        return Part(images, lambda maps: loss(maps, heatmaps, weights), batch.id)

    return Objective(prepare, lambda ids: f"the records {ids}; look at them with data/check_data.py")


def _validate(test_set: TestSet, config: Config, processes: DistContext, net: PoseNet) -> Validation:
    predictions = predict_persons(net.heatmaps, test_set.persons, config, processes, config.train.workers)
    metrics = None
    if processes.is_main:
        metrics = score_results(make_results(predictions, test_set, config), test_set, config)
    metrics = broadcast_object(metrics, processes)
    assert metrics is not None
    figures = {name: value for name, value in metrics.as_dict().items() if isinstance(value, float)}
    return Validation(metrics.AP, figures, f"AP {metrics.AP:.3f} AP50 {metrics.AP50:.3f} ({test_set.boxes})")
