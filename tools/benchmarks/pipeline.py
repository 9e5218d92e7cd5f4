"""One training sample, from a 640x480 image on the disk to the model's input and targets, in one process.

From JPEGs and from a crop cache; half body, scale, rotation, flip; 256x192, targets of 64x48. Times are of one sample,
so 1000 over them is the samples a second of one worker. Without ``--peer``, ours is compared with reading the JPEGs and
nothing else. The images are drawn: as many bytes as COCO's, and a person of 100 to 450 pixels in each.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from torchvision import transforms

from pose.config.pose import AugmentConfig, InputConfig
from pose.datasets.coco import Persons, annotated_persons
from pose.datasets.crop_cache.build import build_crop_cache
from pose.datasets.crop_cache.file import CropCache, make_stamp, open_crop_cache
from pose.datasets.samples import TrainingSamples, make_sample
from pose.images import IMAGENET_MEAN, IMAGENET_STD, Image, crop, read_image
from pose.inference.pytorch import normalize
from pose.skeleton import COCO

from . import Comparison, compare_first, require_same
from ._hrnet import HRNET, add_peer_argument, hrnet_data_set
from ._invented import IMAGE_WH, annotation, annotation_file
from ._timing import Budget

PICTURES = 32
"""Drawn once and sampled in every call."""
IMAGE_SET = "train2017"
HEIGHTS = (100, 450)
JPEG_QUALITY, GRAIN, GRAIN_SIZE = 95, 30, 0.8
"""Give files of about 150 kB, as COCO's are."""
JPEGS, CACHE = "JPEGs", "a crop cache"
BARS = {JPEGS: {HRNET: 1 / 2}, CACHE: {HRNET: 1 / 5}}
READING = "reading the JPEGs alone"
GREY_LEVEL = 1 / (255 * min(IMAGENET_STD))
"""After normalization."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the peer."""
    add_peer_argument(parser)


def measure(
    budget: Budget, rng: np.random.Generator, *, peer: Path | None, pictures: int = PICTURES
) -> Iterator[Comparison]:
    """Time each source of ours and the others, a budget for each source; yields a comparison with each.

    Raises:
        PoseError: ``peer`` is no checkout of HRNet's code, or makes other samples.
    """
    with TemporaryDirectory() as folder:
        root = Path(folder)
        persons = draw_persons(root, pictures, rng)
        others: dict[str, Callable[[], object]] = {READING: partial(_read, persons)}
        if peer is not None:
            _require_same_samples(persons, hrnet_data_set(peer, root, IMAGE_SET, False, _hrnet_transform()))
            others[HRNET] = partial(_sample_all_of, hrnet_data_set(peer, root, IMAGE_SET, True, _hrnet_transform()))
        for source, crops in ((JPEGS, None), (CACHE, _cut(persons, root / "train.crops"))):
            samples = TrainingSamples(persons, COCO, InputConfig(), AugmentConfig(), seed=0, crops=crops)
            ours = {"ours": partial(_sample_all, samples, count())}
            case = f"one training sample, from {source}"
            yield from compare_first(case, ours | others, budget, rng, BARS[source], pieces=len(persons))


def draw_persons(root: Path, pictures: int, rng: np.random.Generator) -> Persons:
    """Write images with a person in each, in COCO's layout, and return the persons."""
    content = annotation_file(pictures, [_invent_person(number, rng) for number in range(1, pictures + 1)])
    images, annotations = root / "images" / IMAGE_SET, root / "annotations" / f"person_keypoints_{IMAGE_SET}.json"
    for folder in (images, annotations.parent):
        folder.mkdir(parents=True)
    annotations.write_text(json.dumps(content), encoding="utf-8")
    for image in content["images"]:
        cv2.imwrite(str(images / image["file_name"]), _draw_image(rng), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return annotated_persons(annotations, images, COCO)


def _invent_person(number: int, rng: np.random.Generator) -> dict[str, Any]:
    height = float(np.exp(rng.uniform(np.log(HEIGHTS[0]), np.log(HEIGHTS[1]))))
    size = np.array([rng.uniform(0.3, 0.8) * height, height])
    corner = rng.uniform(0, np.array(IMAGE_WH) - size)
    keypoints = corner + size * rng.uniform(0, 1, (len(COCO.names), 2))
    return annotation(number, number, np.concatenate([corner, size]), keypoints, rng.integers(0, 3, len(keypoints)))


def _draw_image(rng: np.random.Generator) -> Image:
    """Draw clouds of color under the grain of a film."""
    clouds = cv2.resize(rng.uniform(40, 215, (12, 16, 3)), IMAGE_WH, interpolation=cv2.INTER_CUBIC)
    grain = cv2.GaussianBlur(rng.normal(0, GRAIN, (*IMAGE_WH[::-1], 3)), (0, 0), GRAIN_SIZE)
    return np.asarray((clouds + grain).clip(0, 255), dtype=np.uint8)


def _cut(persons: Persons, path: Path) -> CropCache:
    what = persons, COCO, InputConfig(), AugmentConfig()
    build_crop_cache(*what, path)
    return open_crop_cache(path, make_stamp(*what))


def _read(persons: Persons) -> None:
    for index in range(len(persons)):
        read_image(persons.record(index).image_path)


def _sample_all(samples: TrainingSamples, epochs: Iterator[int]) -> None:
    epoch = next(epochs)  # new views every time
    for row in range(len(samples)):
        normalize(samples[epoch, row].image[None])


def _sample_all_of(data_set: Any) -> None:
    for index in range(len(data_set)):
        data_set[index]


def _hrnet_transform() -> transforms.Compose:
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])


def _require_same_samples(persons: Persons, data_set: Any) -> None:
    """Compare samples that are not augmented, of images that are decoded whole, as HRNet's code does it."""
    for index in range(len(persons)):
        record = persons.record(index)
        whole = partial(crop, read_image(record.image_path))
        ours = make_sample(record, COCO, InputConfig(), None, np.random.default_rng(0), crop_fn=whole)
        picture, targets, weights, _ = data_set[index]
        difference = (normalize(ours.image[None])[0] - picture).abs().mean()
        require_same("images, on average,", HRNET, 0, difference, GREY_LEVEL)
        require_same("targets", HRNET, ours.heatmaps, targets, 1e-6)
        require_same("weights", HRNET, ours.weights, weights[:, 0], 0)
