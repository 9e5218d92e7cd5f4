"""Folders of classes, as ImageNet is laid out, to images with labels.

``root/train/<class>/*`` and ``root/val/<class>/*``. `TrainingImages` and `TestImages` are map-style data sets; a
training image is a pure function of (seed, epoch, row), whatever process draws it.
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

SHOWN = 3
"""Names that a message lists; the rest is counted."""


class ImageSample(NamedTuple):
    """What the engine needs of one image, or of a batch of them (leading axis B)."""

    image: torch.Tensor
    """(size, size, 3) uint8 RGB; normalized on the device."""
    label: torch.Tensor
    """() int64, of its class."""
    row: torch.Tensor
    """() of the image in the data set."""


@dataclass(frozen=True)
class LabeledImages:
    """N images of one folder.

    Attributes:
        folder: of the class folders.
        classes: names of the class folders, in the order of the labels.
        names: (N,) files below ``folder`` as bytes: one array that data loading processes share, where a million
            strings would be copied into each.
        labels: (N,) of their classes.
    """

    folder: Path
    classes: tuple[str, ...]
    names: NDArray[np.bytes_]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, row: int) -> Path:
        """Return the file of one image."""
        return self.folder / os.fsdecode(self.names[row])

    def take(self, rows: NDArray[np.int64]) -> "LabeledImages":
        """Return some of the images."""
        return LabeledImages(self.folder, self.classes, self.names[rows], self.labels[rows])


def load_training_images(data: ClassFoldersConfig) -> tuple[LabeledImages, LabeledImages]:
    """List the images to train and to validate on; both have the same classes.

    Raises:
        DataError: a folder or its images are missing, or the class folders of both differ.
    """
    train, val = data.root / data.train_images, data.root / data.val_images
    if data.classes is not None:
        return load_images(train, data.classes), load_images(val, data.classes)
    classes = class_folders(train)
    check_classes(val, classes, f"the class folders of {train}")
    return load_images(train, classes), load_images(val, classes)


def load_test_images(data: ClassFoldersConfig, classes: tuple[str, ...]) -> LabeledImages:
    """List the images to test a model on.

    Args:
        data: names the folder; where it names classes too, other class folders may lie beside them.
        classes: that the model was trained on.

    Raises:
        DataError: the folder or its images are missing, or its class folders are not the model's.
    """
    folder = data.root / data.val_images
    if data.classes is None:
        check_classes(folder, classes, "the classes that the model was trained on")
    return load_images(folder, classes)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the class folders in a folder.

    Raises:
        DataError: there is no such folder, or no class folders in it.
    """
    try:
        with os.scandir(folder) as entries:
            kinds = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError as error:
        raise DataError(
            f"{folder}: cannot read this folder of classes ({error.strerror}); set data.root, data.train_images and "
            "data.val_images, or lay it out as data/README.md says"
        ) from None
    names = sorted(name for name, is_folder in kinds if is_folder and not name.startswith("."))
    if len(names) < 2:
        raise DataError(
            f"{folder}: expected a folder for each of at least 2 classes, found {len(names)} folders and "
            f"{sum(not is_folder for _, is_folder in kinds)} files; lay it out as data/README.md says"
        )
    return tuple(names)


def check_classes(folder: Path, classes: tuple[str, ...], whose: str) -> None:
    """Check that a folder has exactly these class folders.

    Args:
        folder: of class folders.
        classes: that are expected.
        whose: in words, whose classes they are.

    Raises:
        DataError: naming what it lacks and what it has beyond them.
    """
    found = class_folders(folder)
    lacks, beyond = sorted(set(classes) - set(found)), sorted(set(found) - set(classes))
    if lacks or beyond:
        parts = [f"lacks {_listed(lacks)}"] * bool(lacks) + [f"has {_listed(beyond)} beyond them"] * bool(beyond)
        raise DataError(
            f"{folder}: expected {whose}, {' and '.join(parts)}; complete the folders, or choose classes that both "
            "have with data.classes=[...]"
        )


def load_images(folder: Path, classes: tuple[str, ...]) -> LabeledImages:
    """List the images of the class folders, also in folders inside them.

    Raises:
        DataError: a class folder is missing or has no image.
    """
    lacks = sorted(set(classes) - set(class_folders(folder)))
    if lacks:
        raise DataError(f"{folder}: lacks the class folders {_listed(lacks)}")
    numbers = {name: number for number, name in enumerate(classes)}
    found = make_dataset(folder, numbers, IMG_EXTENSIONS, allow_empty=True)
    labels = np.array([label for _, label in found], dtype=np.int64)
    empty = [classes[number] for number in np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)]
    if empty:
        raise DataError(
            f"{folder}: no image ({' '.join(IMG_EXTENSIONS)}) in the class folders {_listed(empty)}; fill them, or "
            "leave the classes out with data.classes=[...]"
        )
    names = np.array([os.fsencode(os.path.relpath(path, folder)) for path, _ in found])
    return LabeledImages(folder, classes, names, labels)


def _listed(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(map(repr, names[:SHOWN])) + (f" and {rest} more" if rest > 0 else "")


DESCRIBED = 4
"""Images of a batch that an error message names."""


class TrainingImages(Dataset[ImageSample]):
    """Images in random views, indexed by (epoch, row)."""

    def __init__(
        self, pictures: LabeledImages, square: ImageInputConfig, augment: ImageAugmentConfig, seed: int
    ) -> None:
        self.pictures, self.seed = pictures, seed
        self.view = v2.Compose(
            [
                v2.RandomResizedCrop(square.size, scale=augment.crop_area, antialias=True),
                v2.RandomHorizontalFlip(augment.flip_probability),
            ]
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __str__(self) -> str:
        return f"{len(self)} images of {len(self.pictures.classes)} classes"

    def describe(self, rows: list[int]) -> str:
        """Name the first images of a batch by their files."""
        names = ", ".join(str(self.pictures.path(row)) for row in rows[:DESCRIBED])
        return f"a batch with the images {names}{', ...' * (len(rows) > DESCRIBED)}; look at them"

    def __getitem__(self, key: tuple[int, int]) -> ImageSample:
        epoch, row = key
        # torchvision's transforms draw from torch's own generator.
        with torch.random.fork_rng(devices=[]):
            seed = np.random.SeedSequence((self.seed, epoch, row)).generate_state(1)[0]
            torch.default_generator.manual_seed(int(seed))
            return _image(self.pictures, row, self.view)


class TestImages(Dataset[ImageSample]):
    """Images as they are, in order: the centre, after the shorter side was brought to one length."""

    def __init__(self, pictures: LabeledImages, square: ImageInputConfig) -> None:
        self.pictures = pictures
        self.view = v2.Compose([v2.Resize(square.resize, antialias=True), v2.CenterCrop(square.size)])

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> ImageSample:
        return _image(self.pictures, row, self.view)


def _image(pictures: LabeledImages, row: int, view: v2.Transform) -> ImageSample:
    image_rgb = torch.from_numpy(cv2.cvtColor(read_image(pictures.path(row)), cv2.COLOR_BGR2RGB))
    image = view(image_rgb.permute(2, 0, 1)).permute(1, 2, 0).contiguous()
    return ImageSample(image, torch.tensor(pictures.labels[row]), torch.tensor(row))
