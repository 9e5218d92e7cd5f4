"""Attention ablation study (paper, Tables 3 and 4): metrics of a trained model with its attention replaced.

`measure_modes` works with any model and measure function: AP of a pose model (`pose_measure`), accuracy of a classifier
(`classifier_measure`).
"""

import logging
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pose.config.classification import ClassificationConfig
from pose.config.pose import Config
from pose.datasets.imagenet import LabeledImages
from pose.engine.classification_task import classify_images
from pose.engine.distributed import DistContext
from pose.engine.evaluate import TestSet, make_results, predict_persons
from pose.errors import CheckpointError, ConfigError, DataError
from pose.evaluation.coco_ap import evaluate
from pose.models.attention_probe import (
    AttentionRecord,
    LayerAttention,
    attention_modes,
    changed_attention,
    dynamic_layers,
)
from pose.models.classifier import Classifier
from pose.models.pose_net import PoseNet

logger = logging.getLogger(__name__)

AS_TRAINED = "as trained"
"""Name of the mode with unchanged attention."""

COLLAPSED = 1.1
"""Effective number of kernels below which a layer counts as using one kernel for all inputs (0.98 of the weight)."""

Metrics = Mapping[str, float]
"""Values from 0 to 1 by name."""


def measure_modes(
    model: nn.Module, measure: Callable[[], Metrics], seed: int
) -> tuple[dict[str, Metrics], list[LayerAttention]]:
    """Measure a model as trained, recording its attention, and then in each of `attention_modes`.

    Args:
        model: dynamic, in evaluation mode.
        measure: runs the model on the same inputs each time, in batches of two or more, and returns its metrics.
        seed: seed of the random permutations.

    Returns:
        metrics by mode, `AS_TRAINED` first, and the attention of each layer.
    """
    with AttentionRecord(model) as record:
        metrics = {AS_TRAINED: _measure_and_log(AS_TRAINED, measure)}
    layers = record.layers()
    for mode, changes in attention_modes(layers, torch.Generator().manual_seed(seed)).items():
        with changed_attention(model, changes):
            metrics[mode] = _measure_and_log(mode, measure)
    return metrics, layers


def _measure_and_log(mode: str, measure: Callable[[], Metrics]) -> Metrics:
    metrics = measure()
    logger.info("attention %s: %s", mode, ", ".join(f"{name} {100 * value:.1f}" for name, value in metrics.items()))
    return metrics


def format_metrics(metrics: Mapping[str, Metrics]) -> str:
    """Format metrics as a table in percent, one mode per line."""
    width = max(map(len, metrics))
    lines = [f"{'attention':<{width}}" + "".join(f"{name:>8}" for name in metrics[AS_TRAINED])]
    for mode, row in metrics.items():
        lines.append(f"{mode:<{width}}" + "".join(f"{100 * value:>8.1f}" for value in row.values()))
    return "\n".join(lines)


def format_layers(layers: Sequence[LayerAttention]) -> str:
    """Summarize the attention of all layers in one line."""
    collapsed = sum(layer.effective_kernels < COLLAPSED for layer in layers)
    kernels = statistics.mean(layer.effective_kernels for layer in layers)
    entropy = statistics.mean(float(layer.entropy.mean()) for layer in layers)
    variation = statistics.median(layer.variation for layer in layers)
    return (
        f"{len(layers)} dynamic layers, {collapsed} use one kernel for all inputs; effective kernels {kernels:.2f} and "
        f"entropy {entropy:.2f} in the mean, variation between inputs {variation:.3f} in the median"
    )


def require_dynamic(model: nn.Module, weights: Path) -> None:
    """Check that a model has dynamic convolutions.

    Raises:
        CheckpointError: the model has no dynamic convolution with two or more kernels.
    """
    if not dynamic_layers(model):
        raise CheckpointError(
            f"{weights}: expected a dynamic model, got a static one, which has no attention to inspect; "
            "give weights that were trained with model.dynamic_backbone or model.dynamic_head"
        )


def first_persons(test_set: TestSet, limit: int) -> TestSet:
    """Return all persons of the first images by id: at least one image, further ones up to ``limit`` persons in total.

    Raises:
        ConfigError: ``limit`` is not positive.
    """
    _check_limit(limit, "person")
    persons = test_set.persons
    image_ids, counts = np.unique(persons.image_ids, return_counts=True)
    kept = image_ids[: max(1, np.searchsorted(counts.cumsum(), limit, side="right"))]
    rows = np.flatnonzero(np.isin(persons.image_ids, kept))
    return replace(test_set, persons=persons.take(rows), boxes=f"{test_set.boxes} of the first {len(kept)} images")


def pose_measure(
    model: PoseNet, test_set: TestSet, config: Config, dist: DistContext, limited: bool
) -> Callable[[], Metrics]:
    """Return a function that measures AP and AP50 of a pose model by the COCO protocol.

    Args:
        model: in evaluation mode, on the device of ``dist``.
        test_set: persons to predict.
        config: its input and test sections are used.
        dist: rank, world size (1) and device.
        limited: evaluate on the images of these persons only, not on all annotated images.

    Raises:
        ConfigError: the batch size is 1, so no exchange across images is possible, or there are several ranks.
        DataError: there are no persons, or no annotations to evaluate against.
    """
    _check_single_process_and_batch_size(dist, config.test.batch_size)
    if not test_set.annotated or not len(test_set.persons):
        raise DataError(
            f"{test_set.annotations}: expected annotated persons to evaluate on, got "
            f"{'no persons' if test_set.annotated else 'no annotations'} ({test_set.boxes}); give another file"
        )
    image_ids = np.unique(test_set.persons.image_ids).tolist() if limited else None

    def measure() -> Metrics:
        predictions = predict_persons(model.heatmaps, test_set.persons, config, dist, config.train.workers)
        results = make_results(predictions, test_set, config)
        scores = evaluate(
            test_set.annotations, results, config.keypoints.sigmas, image_ids, category_id=test_set.category_id
        )
        return {"AP": scores.AP, "AP50": scores.AP50}

    return measure


def shuffled_images(images: LabeledImages, limit: int | None, seed: int) -> LabeledImages:
    """Return the images, or ``limit`` of them, in random order, so that batches mix the classes.

    Raises:
        ConfigError: ``limit`` is not positive.
    """
    _check_limit(limit, "image")
    return images.take(np.random.default_rng(seed).permutation(len(images))[:limit])


def classifier_measure(
    model: Classifier, images: LabeledImages, config: ClassificationConfig, dist: DistContext
) -> Callable[[], Metrics]:
    """Return a function that measures the accuracy of a classifier.

    Args:
        model: in evaluation mode, on the device of ``dist``.
        images: images to classify, in an order that mixes the classes.
        config: its input, train and test sections are used.
        dist: rank, world size (1) and device.

    Raises:
        ConfigError: the batch size is 1, so no exchange across images is possible, or there are several ranks.
    """
    _check_single_process_and_batch_size(dist, config.test.batch_size)
    classify = partial(classify_images, model, images, config, dist)
    return lambda: classify().figures()


def _check_single_process_and_batch_size(dist: DistContext, batch_size: int) -> None:
    if dist.world_size > 1:
        raise ConfigError(
            f"expected one process, which records all attention, got {dist.world_size}; run without torchrun"
        )
    if batch_size < 2:
        raise ConfigError(f"test.batch_size: expected 2 or more, to exchange attention across images, got {batch_size}")


def _check_limit(limit: int | None, unit: str) -> None:
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit: expected 1 {unit} or more, got {limit}")
