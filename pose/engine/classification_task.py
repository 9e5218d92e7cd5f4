"""The classification task: optimizer, loss and validation of an image classifier."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from pose.config.classification import ClassificationConfig, ClassifierTrainConfig
from pose.datasets.imagenet import ImageSample, LabeledImages, TestImages
from pose.datasets.loading import batches, test_loader
from pose.engine.distributed import DistContext, all_gather
from pose.engine.metrics_log import Validation
from pose.engine.state import parameter_groups
from pose.engine.trainer import LossFn, prepare_images
from pose.evaluation.accuracy import Accuracy, accuracy, ranks
from pose.inference.pytorch import normalize
from pose.models.classifier import Classifier
from pose.progress import ProgressLine


def with_classes(config: ClassificationConfig, classes: tuple[str, ...]) -> ClassificationConfig:
    """Return a config with ``data.classes`` set."""
    return config.model_copy(update={"data": config.data.model_copy(update={"classes": classes})})


def sgd(model: Classifier, options: ClassifierTrainConfig) -> torch.optim.Optimizer:
    """Return SGD with momentum (paper, section 5.1), with the groups of `parameter_groups`."""
    return torch.optim.SGD(
        parameter_groups(model, options), options.learning_rate, options.momentum, weight_decay=options.weight_decay
    )


def classification_loss(options: ClassifierTrainConfig, num_classes: int, device: torch.device) -> LossFn:
    """Return cross-entropy with label smoothing and mixup (paper, section 5.1).

    Mixup draws from torch's default generator, once per batch, and mixes images within the batch of this rank.

    Args:
        options: label smoothing and mixup strength.
        num_classes: number of classes of the labels.
        device: device of the model.
    """
    mixup = v2.MixUp(alpha=options.mixup, num_classes=num_classes) if options.mixup else None

    def loss_fn(model: nn.Module, batch: ImageSample) -> tuple[Tensor, Tensor]:
        images = prepare_images(batch.image, options, device)
        labels = batch.label.to(device, non_blocking=True)
        if mixup is not None:
            images, labels = mixup(images, labels)  # labels become (B, classes) probabilities
        scores = model(images)
        return functional.cross_entropy(scores.float(), labels, label_smoothing=options.label_smoothing), batch.row

    return loss_fn


def classify_images(
    model: Classifier, labeled: LabeledImages, config: ClassificationConfig, dist: DistContext
) -> Accuracy:
    """Measure top-1 and top-5 accuracy; ranks share the images without padding, and all get the result.

    Args:
        model: in evaluation mode, on this rank's device.
        labeled: images to classify, with labels.
        config: its input, train and test sections are used.
        dist: rank, world size and device.
    """
    own = labeled.take(np.array_split(np.arange(len(labeled)), dist.world_size)[dist.rank])
    loader = test_loader(TestImages(own, config.input), config.test.batch_size, config.train.workers)
    own_ranks = [torch.zeros(0, dtype=torch.int64)]
    with ProgressLine("test", len(own), "images") as progress, torch.inference_mode():
        for batch in batches(loader):
            scores = model(normalize(batch.image.to(dist.device)))
            own_ranks.append(ranks(scores.cpu(), batch.label))
            progress.advance(len(batch.label))
    return accuracy(torch.cat(all_gather(torch.cat(own_ranks), dist)), len(labeled.classes))


def validate(labeled: LabeledImages, config: ClassificationConfig, dist: DistContext, model: Classifier) -> Validation:
    """Measure accuracy on validation images; every rank gets the result."""
    result = classify_images(model, labeled, config, dist)
    return Validation(result.top1, result.figures(), f"{result} of {result.images} images")


def protocol_line(config: ClassificationConfig, labeled: LabeledImages, weights: Path) -> str:
    """Describe the evaluation protocol in one line."""
    square = config.input
    return (
        f"{config.name}: {len(labeled)} images of {len(labeled.classes)} classes in {labeled.folder}; "
        f"shorter side to {square.resize}, center {square.size}x{square.size}; weights {weights}"
    )
