"""Config of the pose data set: files, category, and the embedded synthetic data set."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pose.config.base import Section, Seed

NumberOfImages = Annotated[int, Field(gt=0, le=1_000_000)]
ImageSide = Annotated[int, Field(gt=0, le=4096)]


class SyntheticConfig(Section):
    """Embedded synthetic data set, generated in ``data.root`` if it does not exist."""

    subject: Literal["people", "butterflies"] = "people"
    """What is drawn: people with COCO's keypoints, or butterflies with five keypoints of their own."""
    train_images: NumberOfImages = 600
    """Number of training images."""
    val_images: NumberOfImages = 100
    """Number of validation images."""
    image_wh: tuple[ImageSide, ImageSide] = (320, 240)
    """Width and height of an image in pixels."""
    seed: Seed = 0
    """Random seed of the images."""


class DataConfig(Section):
    """Data set. Relative paths are relative to ``root``, which is relative to the working directory."""

    root: Path = Path("data/coco")
    """Folder of the data set."""
    train_annotations: Path = Path("annotations/person_keypoints_train2017.json")
    """Training annotations in COCO keypoint format."""
    train_images: Path = Path("train2017")
    """Folder of the training images."""
    val_annotations: Path = Path("annotations/person_keypoints_val2017.json")
    """Validation annotations in COCO keypoint format; an image-info file for a test set without annotations."""
    val_images: Path = Path("val2017")
    """Folder of the validation images."""
    val_detections: Path = Path("person_detection_results/COCO_val2017_detections_AP_H_56_person.json")
    """Detected person boxes of the validation images, in COCO result format."""
    category: str | None = None
    """Name of the category to train and test on; null: the only one with the skeleton's keypoints."""
    crop_cache: Path | None = None
    """Cache file of training crops, written by `dyconv-pose build-cache`; null: train from the images."""
    synthetic: SyntheticConfig | None = None
    """Generate the embedded synthetic data set in ``root``; null: ``root`` has a data set."""
