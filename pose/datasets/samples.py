"""A person record becomes a sample: one random view, one warp, one set of targets.

`TrainingSamples` and `TestCrops` are map-style data sets for `torch.utils.data.DataLoader`. A training sample is a pure
function of (seed, epoch, index), whatever process draws it, so the same run can be had with any number of workers.
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
from pose.geometry import box_to_view, transform_points, view_to_matrix
from pose.heatmap import encode
from pose.images import Image, person_crop, read_crop, read_image
from pose.skeleton import Skeleton

ColorAugment = Callable[[Image, np.random.Generator], Image]
CropFunction = Callable[[NDArray[np.float64], tuple[int, int]], Image]


class PoseSample(NamedTuple):
    """What the training loop needs of one person, or of a batch of them (leading axis B)."""

    image: torch.Tensor
    """(h, w, 3) uint8 RGB; normalized on the device."""
    heatmaps: torch.Tensor
    """(K, h / 4, w / 4) targets."""
    weights: torch.Tensor
    """(K,) 1 where there is a target."""
    id: torch.Tensor
    """() the record's id, to name it when something is wrong with it."""


class TestCrop(NamedTuple):
    """What testing needs of one person box, or of a batch of them (leading axis B)."""

    image: torch.Tensor
    """(h, w, 3) uint8 RGB."""
    matrix: torch.Tensor
    """(2, 3) float64, heatmap to image."""
    area: torch.Tensor
    """() of the padded view in square image pixels."""
    row: torch.Tensor
    """() of the person in the data set."""


def make_sample(
    record: PersonRecord,
    skeleton: Skeleton,
    input_config: InputConfig,
    augment: AugmentConfig | None,
    rng: np.random.Generator,
    color_augment: ColorAugment | None = None,
    crop_fn: CropFunction | None = None,
) -> PoseSample:
    """Crop one person and draw the targets; ``augment=None`` keeps the upright view.

    ``crop_fn`` gives the crop of an image-to-input matrix; by default it is read from the record's image.
    """
    view = box_to_view(record.bbox_xywh, input_config.aspect_ratio, input_config.padding)
    if augment is not None:
        view = random_view(view, record.keypoints_image, record.visibility, skeleton, augment, rng)
    matrix = view_to_matrix(view, input_config.size_wh)
    crop_fn = crop_fn or partial(read_crop, record.image_path)
    image = crop_fn(matrix, input_config.size_wh)
    if color_augment is not None:
        image = color_augment(image, rng)
    keypoints_input, visibility = transform_points(record.keypoints_image, matrix), record.visibility
    if view.flip:
        keypoints_input, visibility = keypoints_input[skeleton.flip_order], visibility[skeleton.flip_order]
    heatmaps, weights = encode(keypoints_input, visibility, input_config.heatmap_wh, HEATMAP_STRIDE, input_config.sigma)
    return PoseSample(
        torch.from_numpy(image), torch.from_numpy(heatmaps), torch.from_numpy(weights), torch.tensor(record.id)
    )


class TrainingSamples(Dataset[PoseSample]):
    """Persons as augmented samples, indexed by (epoch, row).

    Args:
        persons: to train on.
        skeleton: their keypoint set.
        input_config: of the crops.
        augment: the random views.
        seed: of all randomness.
        crops: of the same persons, to read in place of the images; a sample differs in its pixels only, and little.
    """

    def __init__(
        self,
        persons: Persons,
        skeleton: Skeleton,
        input_config: InputConfig,
        augment: AugmentConfig,
        seed: int,
        crops: CropCache | None = None,
    ) -> None:
        self.persons, self.skeleton, self.input_config, self.augment, self.seed = (
            persons,
            skeleton,
            input_config,
            augment,
            seed,
        )
        self.crops = crops
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
            self._color_augment = photometric(
                self.augment.photometric
            )  # here and not above: each worker imports its own
        rng = np.random.default_rng((self.seed, epoch, row))
        record = self.persons.record(row)
        crop_fn = None if self.crops is None else partial(self.crops.crop, row)
        return make_sample(record, self.skeleton, self.input_config, self.augment, rng, self._color_augment, crop_fn)


_read_again = lru_cache(maxsize=1)(read_image)  # neighbouring boxes often lie in one image


class TestCrops(Dataset[TestCrop]):
    """Persons as upright crops with the matrix that brings keypoints back into the image."""

    def __init__(self, persons: Persons, input_config: InputConfig) -> None:
        self.persons, self.input_config = persons, input_config

    def __len__(self) -> int:
        return len(self.persons)

    def __getitem__(self, index: int) -> TestCrop:
        record = self.persons.record(index)
        image, matrix, area = person_crop(_read_again(record.image_path), record.bbox_xywh, self.input_config)
        return TestCrop(torch.from_numpy(image), torch.from_numpy(matrix), torch.tensor(area), torch.tensor(index))
