"""One training sample: from a 640x480 image file to the model's input and targets, in one process.

From JPEGs and from a crop cache, with half-body, scale, rotation and flip augmentation; 256x192 input, 64x48 targets.
Times are per sample, so 1000 / ms is the number of samples per second of one worker. The baseline is reading the JPEGs
alone, and with --peer also HRNet's code. The images are synthetic: about as many bytes as COCO's, with one person of
100 to 450 pixels in each.
"""

import argparse
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
from pose.files import write_json
from pose.images import IMAGENET_MEAN, IMAGENET_STD, Image, crop, read_image
from pose.inference.pytorch import normalize
from pose.skeleton import COCO

from . import Comparison, compare_first, require_same
from ._hrnet import HRNET, add_peer_argument, hrnet_dataset
from ._synthetic import IMAGE_WH, annotation, annotation_file
from ._timing import Budget

IMAGES = 32
"""Images that every call samples."""
IMAGE_SET = "train2017"
HEIGHTS = (100, 450)
"""Range of the box heights in pixels."""
JPEG_QUALITY, NOISE_STD, NOISE_SIGMA = 95, 30, 0.8
"""JPEG quality, standard deviation and blur of the image noise: files of about 150 kB, as in COCO."""
JPEGS, CACHE = "JPEGs", "a crop cache"
TARGETS = {JPEGS: {HRNET: 1 / 2}, CACHE: {HRNET: 1 / 5}}
READING = "reading the JPEGs alone"
GRAY_LEVEL = 1 / (255 * min(IMAGENET_STD))
"""One gray level after normalization."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--peer``."""
    add_peer_argument(parser)


def measure(
    budget: Budget, rng: np.random.Generator, *, peer: Path | None, images: int = IMAGES
) -> Iterator[Comparison]:
    """Time ours from each source and the others, one budget per source; yields a comparison with each.

    Raises:
        PoseError: ``peer`` is not a checkout of HRNet's code, or returns other samples.
    """
    with TemporaryDirectory() as folder:
        root = Path(folder)
        persons = write_dataset(root, images, rng)
        others: dict[str, Callable[[], object]] = {READING: partial(_read_all, persons)}
        if peer is not None:
            _require_same_samples(persons, hrnet_dataset(peer, root, IMAGE_SET, False, _hrnet_transform()))
            others[HRNET] = partial(_load_all, hrnet_dataset(peer, root, IMAGE_SET, True, _hrnet_transform()))
        for source, crops in ((JPEGS, None), (CACHE, _build_cache(persons, root / "train.crops"))):
            samples = TrainingSamples(persons, COCO, InputConfig(), AugmentConfig(), seed=0, crops=crops)
            ours = {"ours": partial(_sample_all, samples, count())}
            case = f"one training sample, from {source}"
            yield from compare_first(case, ours | others, budget, rng, TARGETS[source], items=len(persons))


def write_dataset(root: Path, images: int, rng: np.random.Generator) -> Persons:
    """Write a synthetic dataset in COCO's folder layout, one annotated person per image, and return the persons."""
    content = annotation_file(images, [_random_person(number, rng) for number in range(1, images + 1)])
    folder, annotations = root / "images" / IMAGE_SET, root / "annotations" / f"person_keypoints_{IMAGE_SET}.json"
    folder.mkdir(parents=True)
    write_json(annotations, content)
    for record in content["images"]:
        _, jpeg = cv2.imencode(".jpg", _random_image(rng), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (folder / record["file_name"]).write_bytes(jpeg.tobytes())
    return annotated_persons(annotations, folder, COCO)


def _random_person(number: int, rng: np.random.Generator) -> dict[str, Any]:
    height = float(np.exp(rng.uniform(np.log(HEIGHTS[0]), np.log(HEIGHTS[1]))))
    size = np.array([rng.uniform(0.3, 0.8) * height, height])
    corner = rng.uniform(0, np.array(IMAGE_WH) - size)
    keypoints = corner + size * rng.uniform(0, 1, (len(COCO.names), 2))
    return annotation(number, number, np.concatenate([corner, size]), keypoints, rng.integers(0, 3, len(keypoints)))


def _random_image(rng: np.random.Generator) -> Image:
    """Return an image of smooth color gradients with blurred noise."""
    gradients = cv2.resize(rng.uniform(40, 215, (12, 16, 3)), IMAGE_WH, interpolation=cv2.INTER_CUBIC)
    noise = cv2.GaussianBlur(rng.normal(0, NOISE_STD, (*IMAGE_WH[::-1], 3)), (0, 0), NOISE_SIGMA)
    return np.asarray((gradients + noise).clip(0, 255), dtype=np.uint8)


def _build_cache(persons: Persons, path: Path) -> CropCache:
    settings = persons, COCO, InputConfig(), AugmentConfig()
    build_crop_cache(*settings, path)
    return open_crop_cache(path, make_stamp(*settings))


def _read_all(persons: Persons) -> None:
    for index in range(len(persons)):
        read_image(persons.record(index).image_path)


def _sample_all(samples: TrainingSamples, epochs: Iterator[int]) -> None:
    epoch = next(epochs)  # new augmentation in every call
    for row in range(len(samples)):
        normalize(samples[epoch, row].image[None])


def _load_all(dataset: Any) -> None:
    for index in range(len(dataset)):
        dataset[index]


def _hrnet_transform() -> transforms.Compose:
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])


def _require_same_samples(persons: Persons, dataset: Any) -> None:
    """Compare samples without augmentation; ours decodes the whole image, as HRNet's code does."""
    for index in range(len(persons)):
        record = persons.record(index)
        crop_fn = partial(crop, read_image(record.image_path))
        ours = make_sample(record, COCO, InputConfig(), None, np.random.default_rng(0), crop_fn=crop_fn)
        image, targets, weights, _ = dataset[index]
        difference = (normalize(ours.image[None])[0] - image).abs().mean()
        require_same("pixels, on average,", HRNET, 0, difference, GRAY_LEVEL)
        require_same("targets", HRNET, ours.heatmaps, targets, 1e-6)
        require_same("weights", HRNET, ours.weights, weights[:, 0], 0)
