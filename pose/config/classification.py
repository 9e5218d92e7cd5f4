"""Config of ImageNet classification: every option with type, unit, default and source.

"paper" is *Dynamic Convolution: Attention over Convolution Kernels* (Chen et al., CVPR 2020), section 5.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pose.config.base import (
    BatchSize,
    ExperimentConfig,
    InputSide,
    OptimizationConfig,
    Positive,
    PositiveInt,
    Probability,
    Section,
    Temperature,
    check_training,
)
from pose.config.pose import BackboneConfig

IMAGENET_CLASSES = 1000
"""Number of classes of a model if ``data.classes`` is not set."""


class ClassFoldersConfig(Section):
    """Data set in class folders. Relative paths are relative to ``root``."""

    root: Path = Path("data/imagenet")
    """Folder of the data set."""
    train_images: Path = Path("train")
    """Training images: a folder that contains one folder per class."""
    val_images: Path = Path("val")
    """Validation images: a folder that contains one folder per class."""
    classes: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """Class folders to use, in the order of the class scores; null: all of ``train_images``, sorted, which a run writes
    into its own config."""
    train_images_per_class: PositiveInt | None = None
    """Use only the first training images of each class, in the order of their file names; null: all. All classes need
    this many."""

    @model_validator(mode="after")
    def _check_classes(self) -> "ClassFoldersConfig":
        repeated = {name for name in self.classes or () if (self.classes or ()).count(name) > 1}
        if repeated:
            raise ValueError(f"classes must be unique, got {sorted(repeated)} more than once")
        return self


class ImageInputConfig(Section):
    """Model input: a square crop."""

    size: InputSide = 224
    """Side of the crop in pixels."""
    resize: Annotated[int, Field(gt=0, le=4096)] = 256
    """Shorter side of a test image in pixels before the center crop."""

    @model_validator(mode="after")
    def _check_sizes(self) -> "ImageInputConfig":
        if self.resize < self.size:
            raise ValueError(f"resize {self.resize} must be at least size {self.size}, the center crop")
        return self

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size, self.size


class ImageAugmentConfig(Section):
    """Training augmentation, as in torchvision's recipes (the paper does not specify it)."""

    crop_area: tuple[Positive, Positive] = (0.08, 1.0)
    """Minimum and maximum area of a random crop, as a fraction of the image area."""
    flip_probability: Probability = 0.5
    """Probability of a horizontal flip."""

    @model_validator(mode="after")
    def _check_crop_area(self) -> "ImageAugmentConfig":
        smallest, largest = self.crop_area
        if not smallest <= largest <= 1:
            raise ValueError(f"crop_area must be [minimum, maximum] with maximum <= 1, got {list(self.crop_area)}")
        return self


class ClassifierTrainConfig(OptimizationConfig):
    """Training by SGD with momentum (paper, section 5.1)."""

    epochs: PositiveInt = 300
    """Number of epochs: passes over the training images."""
    batch_size: BatchSize = 256
    """Global batch size, over all processes and accumulation steps."""
    learning_rate: Positive = 0.05
    """Initial learning rate of SGD, reached at the end of the warm-up."""
    milestones: tuple[PositiveInt, ...] = (30, 60, 90)
    """Epochs after which the learning rate is multiplied by ``decay``."""
    schedule: Literal["steps", "cosine"] = "cosine"
    """Learning rate schedule. steps: ``decay`` at ``milestones``; cosine: to zero over all epochs, no milestones."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD momentum."""
    weight_decay: Annotated[float, Field(ge=0)] = 4e-5
    """Weight decay (L2 penalty) on all weights."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability before the classifier."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Label smoothing: fraction of the target distributed over all classes."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Mixup alpha: each batch is mixed with itself at a ratio drawn from Beta(alpha, alpha); 0: off."""
    temperature_final: Temperature | None = 1.0
    """Temperature after linear annealing (paper, section 5.1: 30 to 1 over 10 epochs); null: constant temperature."""
    validate_every: PositiveInt = 1
    """Epochs between validations; the last epoch is always validated."""


class ClassifierTestConfig(Section):
    """Evaluation."""

    batch_size: BatchSize = 256
    """Images per batch; does not change the results."""


class ClassifierConfig(BackboneConfig):
    """Classifier: backbone and a linear layer."""

    dynamic_classifier: bool = False
    """Dynamic linear layer as the classifier (CondConv; the paper's is static)."""

    @model_validator(mode="after")
    def _check_classifier(self) -> "ClassifierConfig":
        if self.dynamic_classifier and isinstance(self.num_kernels, tuple):
            raise ValueError("dynamic_classifier needs one num_kernels for all; a list applies to the blocks only")
        return self


class ClassificationConfig(ExperimentConfig):
    """Config of a classification experiment."""

    task: Literal["classification"] = "classification"
    """Task that is trained."""
    model: ClassifierConfig = ClassifierConfig()
    """Backbone and classifier."""
    data: ClassFoldersConfig = ClassFoldersConfig()
    """Data set."""
    input: ImageInputConfig = ImageInputConfig()
    """Model input."""
    augment: ImageAugmentConfig = ImageAugmentConfig()
    """Training augmentation."""
    train: ClassifierTrainConfig = ClassifierTrainConfig()
    """Training."""
    test: ClassifierTestConfig = ClassifierTestConfig()
    """Evaluation."""

    @model_validator(mode="after")
    def _check_training(self) -> "ClassificationConfig":
        check_training(self.train, self.model.dynamic_backbone or self.model.dynamic_classifier)
        return self

    @property
    def num_classes(self) -> int:
        """Number of class scores: that of ``data.classes``, or ImageNet's 1000 if it is not set."""
        return len(self.data.classes) if self.data.classes is not None else IMAGENET_CLASSES
