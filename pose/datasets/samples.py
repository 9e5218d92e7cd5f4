"""Turn person records into training samples (crop and target heatmaps) and test crops.

`TrainingSamples` and `TestCrops` are map-style data sets for `torch.utils.data.DataLoader`. A training sample is a pure
function of (seed, epoch, row), so a run is reproducible with any number of workers and processes.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pose.config.pose import STRIDE as HEATMAP_STRIDE
from pose.config.pose import AugmentConfig, InputConfig
from pose.datasets.augment import photometric, random_view
from pose.datasets.coco import PersonRecord, Persons
from pose.datasets.crop_cache.file import CropCache
from pose.datasets.distillation import TeacherHeatmaps
from pose.geometry import Array, Float32, box_to_view, transform_points, view_to_matrix
from pose.heatmap import encode
from pose.images import Image, person_crop, read_crop, read_image
from pose.skeleton import Skeleton

ColorAugment = Callable[[Image, np.random.Generator], Image]
"""Changes the colors of a crop, with randomness from the generator."""
CropFunction = Callable[[Array, tuple[int, int]], Image]
"""Returns the crop of an image-to-input matrix (2, 3) and a size (width, height)."""
MixFunction = Callable[[Array, Array, NDArray[np.intp] | None, Float32, Float32], tuple[Float32, Float32]]
"""Mixes a teacher's heatmaps of one person into targets; arguments as those of `TeacherHeatmaps.mix` after ``row``."""


class PoseSample(NamedTuple):
    """Training sample of one person, or a batch of them (leading axis B)."""

    image: torch.Tensor
    """(h, w, 3) uint8 RGB; normalized on the device."""
    heatmaps: torch.Tensor
    """(K, h / 4, w / 4) target heatmaps."""
    weights: torch.Tensor
    """(K,) 1 for keypoints with a target, else 0."""
    id: torch.Tensor
    """() id of the record, for error messages."""


class TestCrop(NamedTuple):
    """Test input of one person box, or a batch of them (leading axis B)."""

    image: torch.Tensor
    """(h, w, 3) uint8 RGB."""
    heatmap_to_image: torch.Tensor
    """(2, 3) float64 affine matrix."""
    area: torch.Tensor
    """() area of the padded view in square image pixels."""
    row: torch.Tensor
    """() row of the person in the data set."""


def make_sample(
    record: PersonRecord,
    skeleton: Skeleton,
    input_config: InputConfig,
    augment: AugmentConfig | None,
    rng: np.random.Generator,
    color_augment: ColorAugment | None = None,
    crop_fn: CropFunction | None = None,
    mix_fn: MixFunction | None = None,
) -> PoseSample:
    """Crop one person and encode the target heatmaps.

    Args:
        record: person.
        skeleton: keypoint set.
        input_config: size and padding of the crop, sigma of the targets.
        augment: random view; None keeps the upright view.
        rng: source of all randomness.
        color_augment: applied to the crop.
        crop_fn: returns the crop; by default it is read from the record's image file.
        mix_fn: mixes a teacher's heatmaps into the targets, see `TeacherHeatmaps.mix`.
    """
    upright = box_to_view(record.bbox_xywh, input_config.aspect_ratio, input_config.padding)
    view = upright
    if augment is not None:
        view = random_view(upright, record.keypoints_image, record.visibility, skeleton, augment, rng)
    image_to_input = view_to_matrix(view, input_config.size_wh)
    crop_fn = crop_fn or partial(read_crop, record.image_path)
    image = crop_fn(image_to_input, input_config.size_wh)
    if color_augment is not None:
        image = color_augment(image, rng)
    keypoints_input, visibility = transform_points(record.keypoints_image, image_to_input), record.visibility
    if view.flip:
        keypoints_input, visibility = keypoints_input[skeleton.flip_order], visibility[skeleton.flip_order]
    heatmaps, weights = encode(keypoints_input, visibility, input_config.heatmap_wh, HEATMAP_STRIDE, input_config.sigma)
    if mix_fn is not None:
        image_to_view = view_to_matrix(view, input_config.heatmap_wh)
        order = skeleton.flip_order if view.flip else None
        heatmaps, weights = mix_fn(record.bbox_xywh, image_to_view, order, heatmaps, weights)
    return PoseSample(
        torch.from_numpy(image), torch.from_numpy(heatmaps), torch.from_numpy(weights), torch.tensor(record.id)
    )


class TrainingSamples(Dataset[PoseSample]):
    """Data set of augmented training samples, indexed by (epoch, row).

    Args:
        persons: training persons.
        skeleton: their keypoint set.
        input_config: size and padding of the crops, sigma of the targets.
        augment: random views and color augmentation.
        seed: seed of all randomness.
        crops: crop cache of the same persons, read instead of the images. Samples then differ slightly in their pixels
            and in nothing else.
        teacher: heatmaps of a teacher for the same persons, mixed into the targets.
    """

    def __init__(
        self,
        persons: Persons,
        skeleton: Skeleton,
        input_config: InputConfig,
        augment: AugmentConfig,
        seed: int,
        crops: CropCache | None = None,
        teacher: TeacherHeatmaps | None = None,
    ) -> None:
        self.persons, self.skeleton, self.crops, self.seed = persons, skeleton, crops, seed
        self.teacher = teacher
        self.input_config, self.augment = input_config, augment
        self._color_augment: ColorAugment | None = None

    def __len__(self) -> int:
        return len(self.persons)

    def __str__(self) -> str:
        return f"{len(self)} persons{'' if self.crops is None else f', crops of {self.crops.path}'}"

    def describe(self, ids: list[int]) -> str:
        """Name the records of a batch by their ids, and how to inspect them."""
        return f"the records {ids}; look at them with dyconv-pose check-data"

    def __getitem__(self, key: tuple[int, int]) -> PoseSample:
        epoch, row = key
        if self._color_augment is None and self.augment.photometric != "none":
            # Created here and not in __init__: each worker builds its own.
            self._color_augment = photometric(self.augment.photometric)
        rng = np.random.default_rng((self.seed, epoch, row))
        record = self.persons.record(row)
        crop_fn = None if self.crops is None else partial(self.crops.crop, row)
        mix_fn = None if self.teacher is None else partial(self.teacher.mix, row)
        return make_sample(
            record, self.skeleton, self.input_config, self.augment, rng, self._color_augment, crop_fn, mix_fn
        )


_read_image_cached = lru_cache(maxsize=1)(read_image)  # consecutive boxes are often on the same image


class TestCrops(Dataset[TestCrop]):
    """Data set of upright test crops, each with the matrix that maps keypoints back to the image."""

    def __init__(self, persons: Persons, input_config: InputConfig) -> None:
        self.persons, self.input_config = persons, input_config

    def __len__(self) -> int:
        return len(self.persons)

    def __getitem__(self, index: int) -> TestCrop:
        record = self.persons.record(index)
        image_bgr = _read_image_cached(record.image_path)
        crop, heatmap_to_image, area = person_crop(image_bgr, record.bbox_xywh, self.input_config)
        return TestCrop(
            torch.from_numpy(crop), torch.from_numpy(heatmap_to_image), torch.tensor(area), torch.tensor(index)
        )
