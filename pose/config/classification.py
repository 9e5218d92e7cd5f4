"""Every option of ImageNet classification, as `pose.config.pose` has those of pose: type, unit, default, source.

"paper" is *Dynamic Convolution: Attention over Convolution Kernels* (Chen et al., CVPR 2020), section 5.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pose.config.base import (
    ExperimentConfig,
    OptimizationConfig,
    Positive,
    PositiveInt,
    Probability,
    Section,
    check_parts,
)
from pose.config.pose import BackboneConfig

IMAGENET_CLASSES = 1000


class ClassFoldersConfig(Section):
    """Where images are: a folder for each class. Relative paths start at ``root``."""

    root: Path = Path("data/imagenet")
    """Folder of the data set."""
    train_images: Path = Path("train")
    """Folder of class folders to train on."""
    val_images: Path = Path("val")
    """Folder of class folders to validate on."""
    classes: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """Names of class folders in the order of the scores, others are left out; by default all those of
    ``train_images``, sorted, which a run writes into its own config."""

    @model_validator(mode="after")
    def _different(self) -> "ClassFoldersConfig":
        twice = {name for name in self.classes or () if (self.classes or ()).count(name) > 1}
        if twice:
            raise ValueError(f"classes must be different, got {sorted(twice)} more than once")
        return self


class ImageInputConfig(Section):
    """The square that the model sees."""

    size: PositiveInt = 224
    """Its side in pixels."""
    resize: PositiveInt = 256
    """Shorter side of a test image in pixels, before its centre is cut out."""

    @model_validator(mode="after")
    def _possible(self) -> "ImageInputConfig":
        if self.resize < self.size:
            raise ValueError(f"resize {self.resize} must be at least size {self.size}, which is cut out of it")
        return self

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size, self.size


class ImageAugmentConfig(Section):
    """Random views of a training image (as torchvision trains its classifiers; the paper does not say)."""

    crop_area: tuple[Positive, Positive] = (0.08, 1.0)
    """Share of the image's area that a random crop has, from the least to the most."""
    flip_probability: Probability = 0.5
    """Mirror left to right."""

    @model_validator(mode="after")
    def _possible(self) -> "ImageAugmentConfig":
        least, most = self.crop_area
        if not least <= most <= 1:
            raise ValueError(f"crop_area must be two shares of the area, the smaller first, got {list(self.crop_area)}")
        return self


class ClassifierTrainConfig(OptimizationConfig):
    """The optimization (paper, section 5.1), by gradient descent with momentum."""

    epochs: PositiveInt = 300
    """Passes over the training images."""
    batch_size: PositiveInt = 256
    """Global batch, over all processes and accumulation steps."""
    learning_rate: Positive = 0.05
    """Of gradient descent."""
    milestones: tuple[PositiveInt, ...] = (30, 60, 90)
    """Epochs after which the learning rate is multiplied by ``decay``."""
    schedule: Literal["steps", "cosine"] = "cosine"
    """steps: ``decay`` at ``milestones``; cosine: to zero over all epochs, milestones unused."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the last step that the next one keeps."""
    weight_decay: Annotated[float, Field(ge=0)] = 4e-5
    """Added to the gradient, times the weight; all weights alike."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the last layer's inputs that a training step leaves out."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all classes."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """alpha: each batch is mixed with itself in a proportion drawn from Beta(alpha, alpha). 0: off."""
    temperature_final: Positive | None = 1.0
    """Anneal linearly to this tau (paper, section 5.1: 30 to 1 over 10 epochs); null: the temperature stays."""
    validate_every: PositiveInt = 1
    """Epochs between validations; the last epoch is always validated."""


class ClassifierTestConfig(Section):
    """From images to accuracy."""

    batch_size: PositiveInt = 256
    """Images a batch; does not change any answer."""


class ClassificationConfig(ExperimentConfig):
    """One experiment in classification."""

    task: Literal["classification"] = "classification"
    """What is trained."""
    model: BackboneConfig = BackboneConfig()
    data: ClassFoldersConfig = ClassFoldersConfig()
    input: ImageInputConfig = ImageInputConfig()
    augment: ImageAugmentConfig = ImageAugmentConfig()
    train: ClassifierTrainConfig = ClassifierTrainConfig()
    test: ClassifierTestConfig = ClassifierTestConfig()

    @model_validator(mode="after")
    def _possible(self) -> "ClassificationConfig":
        check_parts(self.train)
        return self

    @property
    def num_classes(self) -> int:
        """Of the scores: ImageNet's, as long as no classes are named."""
        return len(self.data.classes) if self.data.classes is not None else IMAGENET_CLASSES
