"""Read COCO JSON files: keypoint annotations, detector boxes and keypoint results.

Every field that is used has a type and a range here, checked once while the file is decoded (`pose.json_file`); all
other fields, such as ``segmentation``, are skipped. What the values mean together (boxes outside of images, keypoints
of another skeleton) is checked by `pose.datasets.validation.checks`.
Formats: https://cocodataset.org/#format-data and https://cocodataset.org/#format-results.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Annotated, TypedDict

from msgspec import Meta, Struct

from pose.errors import DataError
from pose.geometry import MAX_COORDINATE
from pose.json_file import paused_garbage_collection, read_json

MAX_SIDE = 2**20
"""Largest width and height of an image, OpenCV's limit."""

Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""A 64-bit integer, as in the columns of `pose.datasets.coco.Persons`."""
# Integers stay integers: most coordinates of COCO are, and Python shares the small ones, which saves memory.
Number = (
    Annotated[int, Meta(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
    | Annotated[float, Meta(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
)
"""A coordinate in pixels, or a score."""
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)] | Annotated[float, Meta(ge=1, le=MAX_SIDE, multiple_of=1)]
"""Width or height of an image; 640.0 is accepted too."""
Area = Annotated[float, Meta(ge=0, le=MAX_COORDINATE**2)]
"""In square pixels."""
Flag = bool | Annotated[int, Meta(ge=0, le=1)] | Annotated[float, Meta(ge=0, le=1, multiple_of=1)]
"""0 or 1, or false or true."""
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)] | Annotated[float, Meta(ge=0, le=2**53, multiple_of=1)]
Box = tuple[Number, Number, Number, Number]
"""x, y, width, height in pixels."""
Name = Annotated[str, Meta(min_length=1)]

VISIBILITIES = frozenset((0, 1, 2))
_TODO = "correct the file"


class ImageRow(Struct, frozen=True, gc=False):
    """An image; ``file_name`` is relative to the folder of images and below it."""

    id: Id
    file_name: Name
    width: Side
    height: Side

    def __post_init__(self) -> None:
        name = self.file_name
        if "\0" in name or os.path.isabs(name) or (".." in name and ".." in PurePath(name).parts):
            raise ValueError(
                f"file_name: expected the path of a file below the folder of images, got {name[:60]!r}; links are "
                "followed, .. and absolute paths are not"
            )


class AnnotationRow(Struct, frozen=True, gc=False):
    """A person (or another object): 3K keypoint numbers are x, y, visibility of each keypoint."""

    image_id: Id
    category_id: Id
    bbox: Box
    keypoints: list[Number]
    id: Id | None = None
    area: Area | None = None
    iscrowd: Flag = 0
    num_keypoints: Count | None = None

    def __post_init__(self) -> None:
        if len(self.keypoints) % 3:
            raise ValueError(f"keypoints: expected x, y, v for each keypoint, got {len(self.keypoints)} numbers")
        if not VISIBILITIES.issuperset(self.keypoints[2::3]):
            wrong = next(v for v in self.keypoints[2::3] if v not in VISIBILITIES)
            raise ValueError(
                f"keypoints: expected visibilities 0 (not labeled), 1 (hidden) or 2 (visible), got {wrong}"
            )


class CategoryRow(Struct, frozen=True):
    """A category; ``skeleton`` are pairs of keypoint numbers, counted from 1."""

    id: Id
    name: Name
    keypoints: tuple[Name, ...] | None = None
    skeleton: tuple[tuple[Id, Id], ...] | None = None


class Annotations(Struct, frozen=True):
    """Content of an annotation file; ``annotations`` is empty for an image-info file of a test set."""

    images: list[ImageRow]
    annotations: list[AnnotationRow] = []
    categories: list[CategoryRow] = []

    def __post_init__(self) -> None:
        _require_unique("images", (image.id for image in self.images))
        _require_unique("categories", (category.id for category in self.categories))
        if self.annotations and not self.categories:
            raise ValueError("annotations without 'categories'; add the category 'person' with its keypoint names")
        image_ids = {image.id for image in self.images}
        unknown = [annotation for annotation in self.annotations if annotation.image_id not in image_ids]
        if unknown:
            raise ValueError(
                f"{len(unknown)} of {len(self.annotations)} annotations are on images that the file does not list "
                f"(annotation {unknown[0].id}: image {unknown[0].image_id}); add the images or remove the annotations"
            )


class DetectionRow(Struct, frozen=True, gc=False):
    """A detector box."""

    image_id: Id
    category_id: Id
    bbox: Box
    score: Number


class Result(TypedDict):
    """A predicted person: 3K keypoint numbers are x, y, score of each keypoint."""

    image_id: Id
    category_id: Id
    keypoints: list[Number]
    score: Number


def read_annotations(path: Path) -> Annotations:
    """Read a COCO keypoint annotation file, or an image-info file of a test set (no annotations).

    Args:
        path: JSON file, such as ``annotations/person_keypoints_val2017.json``.

    Raises:
        DataError: the file is missing, not JSON, has a field of another type or out of its range, two images with one
            id, or annotations on images that it does not list.
    """
    return read_json(path, Annotations, "COCO keypoint annotations (a mapping), such as person_keypoints_*.json", _TODO)


def read_detections(path: Path) -> list[DetectionRow]:
    """Read detector boxes in COCO result format: a list of image_id, category_id, bbox (xywh) and score.

    Raises:
        DataError: the file is missing, not JSON, or has a field of another type or out of its range.
    """
    return read_json(path, list[DetectionRow], "detector boxes (a list of image_id, category_id, bbox, score)", _TODO)


@paused_garbage_collection()
def read_results(path: Path, num_keypoints: int) -> list[Result]:
    """Read COCO keypoint results: a list of image_id, category_id, keypoints (x, y, score for each) and score.

    Raises:
        DataError: the file is missing, not JSON, has a field of another type or out of its range, or another number of
            keypoints.
    """
    what = "keypoint results (a list of image_id, category_id, keypoints, score)"
    results = read_json(path, list[Result], what, _TODO)
    for row, result in enumerate(results):
        if len(result["keypoints"]) != 3 * num_keypoints:
            raise DataError(
                f"{path}: row {row} (image {result['image_id']}): expected {3 * num_keypoints} keypoint numbers "
                f"(x, y, score for each), got {len(result['keypoints'])}; are these the results of the config's "
                "skeleton?"
            )
    return results


def require_keypoints(rows: Sequence[AnnotationRow], num_keypoints: int, path: Path) -> None:
    """Check that all rows have the keypoints of a skeleton.

    Raises:
        DataError: one has another number of them.
    """
    for row in rows:
        if len(row.keypoints) != 3 * num_keypoints:
            raise DataError(
                f"{path}: annotation {row.id} has {len(row.keypoints)} keypoint numbers, expected {3 * num_keypoints} "
                "(x, y, v for each); does the file match the skeleton of the config?"
            )


def _require_unique(where: str, ids: Iterable[int]) -> None:
    repeated = [row_id for row_id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"{len(repeated)} ids of {where} occur twice (first {repeated[0]}); give each its own id")
