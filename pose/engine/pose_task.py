"""The pose task: training data, optimizer, loss and validation of a pose model."""

import logging

import torch
from torch import Tensor, nn

from pose.config.pose import Config, TrainConfig
from pose.datasets.coco import annotated_persons
from pose.datasets.crop_cache.file import make_stamp, open_crop_cache
from pose.datasets.samples import PoseSample, TrainingSamples
from pose.engine.distributed import DistContext, broadcast_object
from pose.engine.evaluate import TestSet, make_results, predict_persons, score_results
from pose.engine.explain_ap import explain_ap
from pose.engine.losses import LOSSES
from pose.engine.metrics_log import Validation
from pose.engine.sample_images import validation_sheet
from pose.engine.state import parameter_groups
from pose.engine.teacher_heatmaps import open_teacher_heatmaps
from pose.engine.trainer import LossFn, prepare_images
from pose.engine.truth import Truth, find_closest
from pose.models.pose_net import PoseNet

logger = logging.getLogger(__name__)


def training_samples(config: Config) -> TrainingSamples:
    """Return the training set of a config: augmented samples, with its crop cache and its teacher if it has them.

    Raises:
        DataError: a file is missing or cannot be used, or the crop cache was built for other data or options.
        ConfigError: the teacher is missing or does not fit.
    """
    data, skeleton = config.data, config.keypoints
    persons = annotated_persons(
        data.root / data.train_annotations, data.root / data.train_images, skeleton, data.category
    )
    crops = None
    if data.crop_cache is not None:
        crops = open_crop_cache(
            data.root / data.crop_cache, make_stamp(persons, skeleton, config.input, config.augment)
        )
    teacher = open_teacher_heatmaps(config, persons) if config.train.teacher is not None else None
    return TrainingSamples(persons, skeleton, config.input, config.augment, config.seed, crops, teacher)


def adam(model: PoseNet, options: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """Return Adam with the groups of `parameter_groups`; AdamW if the weight decay is positive."""
    return torch.optim.AdamW(
        parameter_groups(model, options),
        options.learning_rate,
        weight_decay=options.weight_decay,
        fused=device.type in ("cpu", "cuda") or None,
    )


def pose_loss(options: TrainConfig, device: torch.device) -> LossFn:
    """Return the loss function of training, which compares the heatmaps of a batch by ``options.loss``."""
    loss = LOSSES[options.loss]

    def loss_fn(model: nn.Module, batch: PoseSample) -> tuple[Tensor, Tensor]:
        maps = model(prepare_images(batch.image, options, device))
        heatmaps = batch.heatmaps.to(device, non_blocking=True)
        weights = batch.weights.to(device, non_blocking=True)
        return loss(maps, heatmaps, weights), batch.id

    return loss_fn


def validate(test_set: TestSet, truth: Truth, config: Config, dist: DistContext, model: PoseNet) -> Validation:
    """Measure AP on a test set and draw predictions beside the annotations; every rank gets the metrics."""
    predictions = predict_persons(model.heatmaps, test_set.persons, config, dist, config.train.workers)
    metrics, images = None, {}
    if dist.is_main:
        metrics = score_results(make_results(predictions, test_set, config), test_set, config)
        closest = find_closest(predictions, truth, config.keypoints.sigmas)
        if reason := explain_ap(metrics, predictions, closest, test_set, truth, config):
            logger.warning("%s", reason)
        images = {"val_pred": validation_sheet(predictions, closest, truth, config.keypoints, config.input)}
    metrics = broadcast_object(metrics, dist)
    assert metrics is not None
    values = {name: value for name, value in metrics.as_dict().items() if isinstance(value, float)}
    return Validation(metrics.AP, values, f"AP {metrics.AP:.3f} AP50 {metrics.AP50:.3f} ({test_set.boxes})", images)
