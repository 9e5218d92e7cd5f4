"""Training and testing a classifier: its data, its loss, its validation; the run itself is `pose.engine.trainer`'s."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torchvision.transforms import v2

from pose.config.classification import ClassificationConfig, ClassifierTrainConfig
from pose.datasets.imagenet import ImageSample, LabeledImages, TestImages, TrainingImages, load_training_images
from pose.datasets.loading import EpochSampler, batches, test_loader, training_loader
from pose.engine.distributed import DistContext, gather
from pose.engine.initialize import initialize_weights
from pose.engine.trainer import Objective, Part, Task, Validation, make_training, run_epochs
from pose.evaluation.accuracy import Accuracy, accuracy, ranks
from pose.inference.pytorch import normalize
from pose.models import build_classifier
from pose.models.classifier import Classifier
from pose.progress import ProgressLine

NAMED = 4
"""Images that a message names of a batch."""


def train(config: ClassificationConfig, folder: Path, processes: DistContext, resume: Path | None = None) -> float:
    """Train a classifier and return the best top-1 accuracy; the arguments and errors are `run_epochs`'s.

    The config that the run keeps names the classes.
    """
    torch.manual_seed(config.seed)
    labeled, validation = load_training_images(config.data)
    config = with_classes(config, labeled.classes)
    options = config.train
    sampler = EpochSampler(
        len(labeled),
        options.batch_size,
        options.accumulate,
        processes.rank,
        processes.count,
        config.seed,
        unit="images",
    )
    samples = TrainingImages(labeled, config.input, config.augment, config.seed)
    loader = training_loader(samples, sampler, options.workers, pin_memory=processes.device.type == "cuda")
    raw = build_classifier(config)
    if options.start is not None and resume is None:
        initialize_weights(raw, options.start, config.model, samples)
    parts = raw.backbone, raw.head
    training, net = make_training(raw, parts, options, processes, partial(_descent, options))
    objective = classification_objective(options, labeled, processes.device)
    validate = partial(_validate, validation, config, processes)
    records = f"{len(labeled)} images of {config.num_classes} classes"
    task = Task(config, options, training, net, sampler, loader, records, objective, validate)
    return run_epochs(task, folder, processes, resume)


def with_classes(config: ClassificationConfig, classes: tuple[str, ...]) -> ClassificationConfig:
    """Return the config with the classes named."""
    return config.model_copy(update={"data": config.data.model_copy(update={"classes": classes})})


def _descent(options: ClassifierTrainConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, options.learning_rate, options.momentum, weight_decay=options.weight_decay)


def classification_objective(
    options: ClassifierTrainConfig, labeled: LabeledImages, device: torch.device
) -> Objective[ImageSample]:
    """Return cross-entropy with label smoothing and mixup (paper, section 5.1).

    Mixup draws from torch's default generator, once a batch; images are mixed within each process's part of it.

    Args:
        options: how strong both are.
        labeled: that the rows of a batch are of.
        device: to prepare batches on.
    """
    mix = v2.MixUp(alpha=options.mixup, num_classes=len(labeled.classes)) if options.mixup else None

    def prepare(batch: ImageSample) -> Part:
        images = normalize(batch.image.to(device, non_blocking=True))
        labels = batch.label.to(device, non_blocking=True)
        if mix is not None:
            images, labels = mix(images, labels)  # labels are (B, classes) shares now
        return Part(images, partial(_cross_entropy, labels, options.label_smoothing), batch.row)

    def describe(rows: list[int]) -> str:
        named = ", ".join(str(labeled.path(row)) for row in rows[:NAMED])
        return f"a batch with the images {named}{', ...' * (len(rows) > NAMED)}; look at them"

    return Objective(prepare, describe)


def _cross_entropy(labels: torch.Tensor, label_smoothing: float, scores: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(scores.float(), labels, label_smoothing=label_smoothing)


def classify_images(
    net: Classifier, labeled: LabeledImages, config: ClassificationConfig, processes: DistContext
) -> Accuracy:
    """Measure accuracy; processes share the work, without padding, and all get the whole.

    Args:
        net: in evaluation mode, on this process's device.
        labeled: to classify.
        config: its input, train and test sections hold.
        processes: this process among its equals.
    """
    mine = labeled.take(np.array_split(np.arange(len(labeled)), processes.count)[processes.rank])
    loader = test_loader(TestImages(mine, config.input), config.test.batch_size, config.train.workers)
    found = [torch.zeros(0, dtype=torch.int64)]
    with ProgressLine("test", len(mine), "images") as progress, torch.inference_mode():
        for batch in batches(loader):
            scores = net(normalize(batch.image.to(processes.device)))
            found.append(ranks(scores.cpu(), batch.label))
            progress.advance(len(batch.label))
    return accuracy(torch.cat(gather(torch.cat(found), processes)), len(labeled.classes))


def _validate(
    labeled: LabeledImages, config: ClassificationConfig, processes: DistContext, net: Classifier
) -> Validation:
    found = classify_images(net, labeled, config, processes)
    return Validation(found.top1, found.figures(), f"{found} of {found.images} images")


def protocol_line(config: ClassificationConfig, labeled: LabeledImages, weights: Path) -> str:
    """Say in words how an accuracy came about."""
    square = config.input
    return (
        f"{config.name}: {len(labeled)} images of {len(labeled.classes)} classes in {labeled.folder}; "
        f"shorter side to {square.resize}, centre {square.size}x{square.size}; weights {weights}"
    )
