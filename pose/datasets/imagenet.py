"""Image classification data sets in ImageNet's folder layout.

``root/train/<class>/*`` and ``root/val/<class>/*``. `TrainingImages` and `TestImages` are map-style data sets. A
training image is a pure function of (seed, epoch, row), so a run is reproducible with any number of workers.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset
from torchvision.transforms import v2

from pose.config.classification import ClassFoldersConfig, ImageAugmentConfig, ImageInputConfig
from pose.errors import DataError
from pose.images import read_image

MAX_LISTED = 3
"""Number of names that an error message lists; the others are counted."""


class ImageSample(NamedTuple):
    """One labeled image, or a batch of them (leading axis B)."""

    image: torch.Tensor
    """(size, size, 3) uint8 RGB; normalized on the device."""
    label: torch.Tensor
    """() int64 class index."""
    row: torch.Tensor
    """() row of the image in the data set."""


@dataclass(frozen=True)
class LabeledImages:
    """Files and labels of N images.

    Attributes:
        folder: folder of the class folders.
        classes: names of the class folders, in label order.
        names: (N,) files relative to ``folder``, as bytes: data loading processes share one array, while a million
            Python strings would be copied to each process.
        labels: (N,) class indices.
    """

    folder: Path
    classes: tuple[str, ...]
    names: NDArray[np.bytes_]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, row: int) -> Path:
        """Return the path of the image at ``row``."""
        return self.folder / os.fsdecode(self.names[row])

    def take(self, rows: NDArray[np.int64]) -> "LabeledImages":
        """Return the images at ``rows``."""
        return LabeledImages(self.folder, self.classes, self.names[rows], self.labels[rows])


def load_training_images(data: ClassFoldersConfig) -> tuple[LabeledImages, LabeledImages]:
    """List the training and validation images; both have the same classes.

    Raises:
        DataError: a folder or its images are missing, the class folders differ, or a class has fewer training images
            than ``data.train_images_per_class``.
    """
    train, val = data.root / data.train_images, data.root / data.val_images
    classes = data.classes
    if classes is None:
        classes = class_folders(train)
        check_classes(val, classes, f"the class folders of {train}")
    train_images = load_images(train, classes)
    if data.train_images_per_class is not None:
        train_images = first_of_each_class(train_images, data.train_images_per_class)
    return train_images, load_images(val, classes)


def first_of_each_class(images: LabeledImages, count: int) -> LabeledImages:
    """Return the first ``count`` images of each class, in the order of their file names.

    Raises:
        DataError: a class has fewer.
    """
    rows = [np.flatnonzero(images.labels == label)[:count] for label in range(len(images.classes))]
    short = [name for name, own in zip(images.classes, rows, strict=True) if len(own) < count]
    if short:
        raise DataError(
            f"{images.folder}: fewer than {count} images in the class folders {_listed(short)}; add images, or lower "
            "data.train_images_per_class"
        )
    return images.take(np.concatenate(rows))


def load_test_images(data: ClassFoldersConfig, classes: tuple[str, ...]) -> LabeledImages:
    """List the test images of a model.

    Args:
        data: defines the folder. If it lists classes, additional class folders are allowed.
        classes: classes that the model was trained on.

    Raises:
        DataError: the folder or its images are missing, or its class folders are not the model's classes.
    """
    folder = data.root / data.val_images
    if data.classes is None:
        check_classes(folder, classes, "the classes that the model was trained on")
    return load_images(folder, classes)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the class folders.

    Raises:
        DataError: the folder cannot be read, or has fewer than two class folders.
    """
    try:
        with os.scandir(folder) as entries:
            is_dir = {entry.name: entry.is_dir() for entry in entries}
    except OSError as error:
        raise DataError(
            f"{folder}: cannot read this folder of classes ({error.strerror}); set data.root, data.train_images and "
            "data.val_images; expected train/<class>/ and val/<class>/ below data.root"
        ) from None
    names = sorted(name for name in is_dir if is_dir[name] and not name.startswith("."))
    if len(names) < 2:
        raise DataError(
            f"{folder}: expected one folder per class and at least 2 classes, got {len(names)} folders and "
            f"{sum(not value for value in is_dir.values())} files; move the images into <class>/ folders"
        )
    return tuple(names)


def check_classes(folder: Path, classes: tuple[str, ...], description: str) -> None:
    """Check that a folder has exactly the given class folders.

    Args:
        folder: folder of the class folders.
        classes: expected classes.
        description: of the expected classes, for the error message.

    Raises:
        DataError: class folders are missing or unexpected.
    """
    present = class_folders(folder)
    missing, unexpected = sorted(set(classes) - set(present)), sorted(set(present) - set(classes))
    if missing or unexpected:
        parts = [f"lacks {_listed(missing)}"] * bool(missing)
        parts += [f"has {_listed(unexpected)} in addition"] * bool(unexpected)
        raise DataError(
            f"{folder}: expected {description}, {' and '.join(parts)}; complete the folders, or select common classes "
            "with data.classes=[...]"
        )


def load_images(folder: Path, classes: tuple[str, ...]) -> LabeledImages:
    """List the images of the class folders, including their subfolders.

    Raises:
        DataError: a class folder is missing or has no image.
    """
    missing = sorted(set(classes) - set(class_folders(folder)))
    if missing:
        raise DataError(f"{folder}: lacks the class folders {_listed(missing)}")
    class_to_index = {name: index for index, name in enumerate(classes)}
    files = make_dataset(folder, class_to_index, IMG_EXTENSIONS, allow_empty=True)
    labels = np.array([label for _, label in files], dtype=np.int64)
    empty = [classes[index] for index in np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)]
    if empty:
        raise DataError(
            f"{folder}: no image ({' '.join(IMG_EXTENSIONS)}) in the class folders {_listed(empty)}; add images, or "
            "exclude these classes with data.classes=[...]"
        )
    names = np.array([os.fsencode(os.path.relpath(path, folder)) for path, _ in files])
    return LabeledImages(folder, classes, names, labels)


def _listed(names: list[str]) -> str:
    rest = len(names) - MAX_LISTED
    return ", ".join(map(repr, names[:MAX_LISTED])) + (f" and {rest} more" if rest > 0 else "")


DESCRIBED = 4
"""Images of a batch that an error message names."""


class TrainingImages(Dataset[ImageSample]):
    """Data set of randomly resized and flipped training images, indexed by (epoch, row)."""

    def __init__(
        self, images: LabeledImages, input_config: ImageInputConfig, augment: ImageAugmentConfig, seed: int
    ) -> None:
        self.images, self.seed = images, seed
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(input_config.size, scale=augment.crop_area, antialias=True),
                v2.RandomHorizontalFlip(augment.flip_probability),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        return f"{len(self)} images of {len(self.images.classes)} classes"

    def describe(self, rows: list[int]) -> str:
        """Name the first images of a batch by their files."""
        names = ", ".join(str(self.images.path(row)) for row in rows[:DESCRIBED])
        return f"a batch with the images {names}{', ...' * (len(rows) > DESCRIBED)}; look at them"

    def __getitem__(self, key: tuple[int, int]) -> ImageSample:
        epoch, row = key
        # torchvision's transforms use torch's global generator.
        with torch.random.fork_rng(devices=[]):
            seed = np.random.SeedSequence((self.seed, epoch, row)).generate_state(1)[0]
            torch.default_generator.manual_seed(int(seed))
            return _load_sample(self.images, row, self.transform)


class TestImages(Dataset[ImageSample]):
    """Data set of test images: the shorter side is resized, then the center is cropped."""

    def __init__(self, images: LabeledImages, input_config: ImageInputConfig) -> None:
        self.images = images
        self.transform = v2.Compose([v2.Resize(input_config.resize, antialias=True), v2.CenterCrop(input_config.size)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> ImageSample:
        return _load_sample(self.images, row, self.transform)


def _load_sample(images: LabeledImages, row: int, transform: v2.Transform) -> ImageSample:
    image_rgb = torch.from_numpy(cv2.cvtColor(read_image(images.path(row)), cv2.COLOR_BGR2RGB))
    image = transform(image_rgb.permute(2, 0, 1)).permute(1, 2, 0).contiguous()
    return ImageSample(image, torch.tensor(images.labels[row]), torch.tensor(row))
