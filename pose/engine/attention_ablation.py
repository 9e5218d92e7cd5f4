"""What the attention of a trained model is worth: the model's figures as it is, and with its attention changed.

`measure_modes` takes any model and any measure of it: a pose model's AP (`pose_measure`), or a classifier's top-1
(`classifier_measure`).
"""

import logging
from collections.abc import Callable, Mapping
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

Figures = Mapping[str, float]
"""Named shares, 0 to 1."""


def measure_modes(
    model: nn.Module, measure: Callable[[], Figures], seed: int
) -> tuple[dict[str, Figures], list[LayerAttention]]:
    """Measure a model as it is, its attention watched meanwhile, and then in each of `attention_modes`.

    Args:
        model: dynamic, in evaluation mode.
        measure: shows the model the same inputs each time, in batches of two or more, and returns its figures.
        seed: of the random orders.

    Returns:
        the figures by mode, those of the model as it is first, and the attention of each layer.
    """
    with AttentionRecord(model) as record:
        figures = {AS_TRAINED: _measured(AS_TRAINED, measure)}
    layers = record.layers()
    for mode, changes in attention_modes(layers, torch.Generator().manual_seed(seed)).items():
        with changed_attention(model, changes):
            figures[mode] = _measured(mode, measure)
    return figures, layers


def _measured(mode: str, measure: Callable[[], Figures]) -> Figures:
    figures = measure()
    logger.info("attention %s: %s", mode, ", ".join(f"{name} {100 * value:.1f}" for name, value in figures.items()))
    return figures


def format_figures(figures: Mapping[str, Figures]) -> str:
    """Return a table of figures in percent, one mode a line."""
    width = max(map(len, figures))
    lines = [f"{'attention':<{width}}" + "".join(f"{name:>8}" for name in figures[AS_TRAINED])]
    for mode, row in figures.items():
        lines.append(f"{mode:<{width}}" + "".join(f"{100 * value:>8.1f}" for value in row.values()))
    return "\n".join(lines)


def require_dynamic(model: nn.Module, weights: Path) -> None:
    """Refuse a model without attention.

    Raises:
        CheckpointError: it has no dynamic convolution of two kernels or more.
    """
    if not dynamic_layers(model):
        raise CheckpointError(
            f"{weights}: expected a dynamic model, got a static one, which has no attention to inspect; "
            "give weights that were trained with model.dynamic_backbone or model.dynamic_head"
        )


def first_persons(test_set: TestSet, limit: int) -> TestSet:
    """Return the persons of the first images, by id: as many whole images as have ``limit`` persons, one at least.

    Raises:
        ConfigError: ``limit`` is not positive.
    """
    _require_some(limit, "person")
    persons = test_set.persons
    image_ids, counts = np.unique(persons.image_ids, return_counts=True)
    kept = image_ids[: max(1, np.searchsorted(counts.cumsum(), limit, side="right"))]
    rows = np.flatnonzero(np.isin(persons.image_ids, kept))
    return replace(test_set, persons=persons.take(rows), boxes=f"{test_set.boxes} of the first {len(kept)} images")


def pose_measure(
    model: PoseNet, test_set: TestSet, config: Config, processes: DistContext, limited: bool
) -> Callable[[], Figures]:
    """Return what measures AP and AP50 of a pose model by the usual protocol.

    Args:
        model: in evaluation mode on this process's device.
        test_set: persons to predict.
        config: its input and test sections hold.
        processes: this process alone.
        limited: measure on the images of these persons only, not on all that are annotated.

    Raises:
        ConfigError: batches of one, which have no other image to exchange attention with, or several processes.
        DataError: nobody to predict, or no annotations to measure against.
    """
    _require_one_process_and_pairs(processes, config.test.batch_size)
    if not test_set.annotated or not len(test_set.persons):
        raise DataError(
            f"{test_set.annotations}: expected annotated persons to measure on, got "
            f"{'no persons' if test_set.annotated else 'no annotations'} ({test_set.boxes}); name another file"
        )
    image_ids = np.unique(test_set.persons.image_ids).tolist() if limited else None

    def measure() -> Figures:
        predictions = predict_persons(model.heatmaps, test_set.persons, config, processes, config.train.workers)
        results = make_results(predictions, test_set, config)
        metrics = evaluate(
            test_set.annotations, results, config.keypoints.sigmas, image_ids, category_id=test_set.category_id
        )
        return {"AP": metrics.AP, "AP50": metrics.AP50}

    return measure


def shuffled_images(images: LabeledImages, limit: int | None, seed: int) -> LabeledImages:
    """Return images, or ``limit`` of them, in random order: class folders come one class after the other.

    Raises:
        ConfigError: ``limit`` is not positive.
    """
    _require_some(limit, "image")
    return images.take(np.random.default_rng(seed).permutation(len(images))[:limit])


def classifier_measure(
    model: Classifier, images: LabeledImages, config: ClassificationConfig, processes: DistContext
) -> Callable[[], Figures]:
    """Return what measures the accuracy of a classifier.

    Args:
        model: in evaluation mode on this process's device.
        images: to classify, in an order that mixes their classes.
        config: its input, train and test sections hold.
        processes: this process alone.

    Raises:
        ConfigError: batches of one, which have no other image to exchange attention with, or several processes.
    """
    _require_one_process_and_pairs(processes, config.test.batch_size)
    classify = partial(classify_images, model, images, config, processes)
    return lambda: classify().figures()


def _require_one_process_and_pairs(processes: DistContext, batch_size: int) -> None:
    if processes.count > 1:
        raise ConfigError(f"expected one process to watch all attention, got {processes.count}; run without torchrun")
    if batch_size < 2:
        raise ConfigError(f"test.batch_size: expected 2 or more, to exchange attention across images, got {batch_size}")


def _require_some(limit: int | None, what: str) -> None:
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit: expected 1 {what} or more, got {limit}")
