"""Estimate OKS sigmas from objects that were annotated several times, as COCO did for its persons."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pose.datasets.coco import Persons, annotated_persons
from pose.errors import DataError
from pose.geometry import Array, iou
from pose.skeleton import Skeleton

SAME_OBJECT_IOU = 0.5
"""Boxes of two files on the same image with a higher intersection over union are taken for the same object."""


def estimate_sigmas(files: Sequence[Path], skeleton: Skeleton, category: str | None = None) -> tuple[Array, Array]:
    """Estimate sigmas from two or more annotation files of the same images, each by another annotator.

    A sigma is the standard deviation of d / sqrt(area), where d is the distance of an annotation from the mean of the
    annotations of that keypoint (COCO's definition, https://cocodataset.org/#keypoints-eval). Images are matched by
    file name, objects by their boxes.

    Args:
        files: annotation files; the areas are those of the first.
        skeleton: their keypoint set.
        category: see `pose.datasets.coco.find_category`.

    Returns:
        sigmas (K,), NaN for a keypoint that no object has twice; and the number of repeated objects (K,).

    Raises:
        DataError: a file cannot be used, or no object is in two files.
    """
    persons = [annotated_persons(path, Path(), skeleton, category) for path in files]
    squares, freedom = np.zeros(skeleton.num_keypoints), np.zeros(skeleton.num_keypoints)
    objects = np.zeros(skeleton.num_keypoints)
    for row, repeats in _same_objects(persons):
        area = persons[0].areas[row]
        area = persons[0].bboxes_xywh[row, 2:].prod() if np.isnan(area) else area
        points = np.stack([people.keypoints_image[index] for people, index in repeats])  # (M, K, 2)
        labeled = np.stack([people.visibility[index] > 0 for people, index in repeats])[..., None]
        count = labeled.sum(axis=0)[:, 0]
        mean = (points * labeled).sum(axis=0) / np.maximum(count, 1)[:, None]
        repeated = count > 1
        squares += repeated * (labeled * (points - mean) ** 2).sum(axis=(0, 2)) / area
        freedom += repeated * (count - 1)
        objects += repeated
    if not freedom.any():
        raise DataError(
            f"{files[0]}: no keypoint of an object that {', '.join(map(str, files[1:]))} annotates too; expected the "
            "same images (by file_name), annotated again"
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(squares / freedom), objects


def _same_objects(persons: Sequence[Persons]) -> Iterator[tuple[int, list[tuple[Persons, int]]]]:
    """Yield the row of each object of the first file, with all its annotations as (persons, row)."""
    first = persons[0]
    for row in range(len(first)):
        repeats = [(first, row)]
        for others in persons[1:]:
            candidates = np.flatnonzero(others.file_names == first.file_names[row])
            if len(candidates):
                overlap = iou(first.bboxes_xywh[row], others.bboxes_xywh[candidates])
                if overlap.max() > SAME_OBJECT_IOU:
                    repeats.append((others, int(candidates[overlap.argmax()])))
        if len(repeats) > 1:
            yield row, repeats
