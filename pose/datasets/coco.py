"""Load persons from COCO keypoint annotations or detector boxes.

Persons are stored as columns (`Persons`): 150,000 of them are a few arrays, which data loading processes share.
`Persons.record` returns one person as a `PersonRecord`. Persons and boxes are filtered as in SimpleBaseline and HRNet,
the protocol of published COCO results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.datasets.coco_json import read_annotations, read_detections
from pose.datasets.keypoint_set import difference, several_categories
from pose.errors import DataError
from pose.geometry import Array, clean_box
from pose.skeleton import Skeleton


@dataclass(frozen=True)
class PersonRecord:
    """One person: box, keypoints and image.

    Attributes:
        id: annotation id, or the row index of a detector box in its file.
        image_id: image id in the annotation file.
        image_path: path of the image file.
        bbox_xywh: (4,) box in image pixels.
        score: box score; 1 for annotated persons.
        keypoints_image: (K, 2) x, y in image pixels; zeros where not labeled.
        visibility: (K,) 0 not labeled, 1 hidden, 2 visible.
    """

    id: int
    image_id: int
    image_path: Path
    bbox_xywh: Array
    score: float
    keypoints_image: Array
    visibility: NDArray[np.uint8]


@dataclass(frozen=True)
class Persons:
    """N persons as columns; `PersonRecord` documents the values.

    Attributes:
        image_folder: folder of the images.
        file_names: (N,) image files relative to ``image_folder``.
        ids: (N,) int64.
        image_ids: (N,) int64.
        bboxes_xywh: (N, 4) in image pixels.
        scores: (N,) float64.
        keypoints_image: (N, K, 2) in image pixels.
        visibility: (N, K) uint8.
    """

    image_folder: Path
    file_names: NDArray[np.str_]
    ids: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    bboxes_xywh: Array
    scores: Array
    keypoints_image: Array
    visibility: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)

    def record(self, index: int) -> PersonRecord:
        """Return the person at ``index``."""
        return PersonRecord(
            int(self.ids[index]),
            int(self.image_ids[index]),
            self.image_folder / str(self.file_names[index]),
            self.bboxes_xywh[index],
            float(self.scores[index]),
            self.keypoints_image[index],
            self.visibility[index],
        )

    def take(self, indices: NDArray[np.intp]) -> "Persons":
        """Return the persons at ``indices``."""
        columns = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "image_folder"}
        return replace(self, **{name: column[indices] for name, column in columns.items()})


def annotated_persons(
    annotations: Path, image_folder: Path, skeleton: Skeleton, category: str | None = None
) -> Persons:
    """Load annotated persons for training, or for testing with ground-truth boxes.

    Keeps persons of the skeleton's category that are not crowds and have a labeled keypoint. Boxes are clipped by
    `pose.geometry.clean_box`; persons with an empty box are dropped. ``category`` as in `find_category`.

    Raises:
        DataError: the file is missing or not COCO keypoint annotations, or no person is left.
    """
    content = read_annotations(annotations)
    category_id = find_category(content, annotations, skeleton, category)
    images = {image["id"]: image for image in content["images"]}
    rows = [
        (annotation, bbox)
        for annotation in content["annotations"]
        if annotation["category_id"] == category_id and not annotation.get("iscrowd", 0)
        if any(_keypoints(annotation, annotations, skeleton)[2::3])
        if (bbox := _clipped_bbox(annotation, images, annotations)) is not None
    ]
    if not rows:
        raise DataError(
            f"{annotations}: no person with a labeled keypoint among {len(content['annotations'])} annotations; "
            "run dyconv-pose check-data"
        )
    keypoints = np.array([annotation["keypoints"] for annotation, _ in rows], dtype=np.float64)
    not_finite = ~np.isfinite(keypoints).all(axis=1)
    if not_finite.any():
        first = rows[int(not_finite.argmax())][0].get("id")
        raise DataError(
            f"{annotations}: {not_finite.sum()} annotations (first id {first}) have keypoints that are not finite "
            "numbers; run dyconv-pose check-data"
        )
    keypoints = keypoints.reshape(len(rows), skeleton.num_keypoints, 3)
    return Persons(
        image_folder,
        np.array([images[annotation["image_id"]]["file_name"] for annotation, _ in rows]),
        np.array([annotation.get("id", -1) for annotation, _ in rows]),
        np.array([annotation["image_id"] for annotation, _ in rows]),
        np.array([bbox for _, bbox in rows]),
        np.ones(len(rows)),
        np.where(keypoints[..., 2:] > 0, keypoints[..., :2], 0),
        keypoints[..., 2].astype(np.uint8),
    )


def detected_persons(
    detections: Path,
    annotations: Path,
    image_folder: Path,
    skeleton: Skeleton,
    threshold: float = 0.0,
    category: str | None = None,
) -> Persons:
    """Load detector boxes in COCO result format as persons; boxes are not clipped to the image.

    Args:
        detections: boxes of any category; only the skeleton's category is used.
        annotations: annotation or image-info file that lists the images; its annotations are ignored.
        image_folder: folder of the images.
        skeleton: keypoint set.
        threshold: minimum box score.
        category: see `find_category`.

    Raises:
        DataError: a file is missing or in another format, a box is not four finite numbers, or a box is on an image
            that ``annotations`` does not list.
    """
    content = read_annotations(annotations)
    category_id = find_category(content, annotations, skeleton, category)
    file_names = {image["id"]: image["file_name"] for image in content["images"]}
    rows = [
        (row, box, bbox)
        for row, box in enumerate(read_detections(detections))
        if box["category_id"] == category_id and box["score"] >= threshold
        if min((bbox := _bbox(box, f"row {row}", detections))[2:]) > 0
    ]
    unknown = sorted({box["image_id"] for _, box, _ in rows} - file_names.keys())
    if unknown:
        raise DataError(
            f"{detections}: {len(unknown)} image ids (first {unknown[0]}) are not in {annotations}; "
            "use the detections of this annotation file's images"
        )
    count = len(rows)
    return Persons(
        image_folder,
        np.array([file_names[box["image_id"]] for _, box, _ in rows], dtype=np.str_),
        np.array([row for row, _, _ in rows], dtype=np.int64),
        np.array([box["image_id"] for _, box, _ in rows], dtype=np.int64),
        np.array([bbox for _, _, bbox in rows]).reshape(count, 4),
        np.array([box["score"] for _, box, _ in rows], dtype=np.float64),
        np.zeros((count, skeleton.num_keypoints, 2)),
        np.zeros((count, skeleton.num_keypoints), dtype=np.uint8),
    )


def find_category(
    content: Mapping[str, Any], annotations: Path, skeleton: Skeleton, category: str | None = None
) -> int:
    """Return the id of the category with the skeleton's keypoints, or of 'person' if no category lists keypoints.

    Args:
        content: of the annotation file.
        annotations: the file, for error messages.
        skeleton: keypoint set.
        category: name of the category, where several have the skeleton's keypoints.

    Raises:
        DataError: the file's categories list other keypoints, or several categories have the skeleton's.
    """
    categories: list[Mapping[str, Any]] = [
        entry for entry in content.get("categories", []) if category in (None, entry["name"])
    ]
    with_keypoints = [entry for entry in categories if entry.get("keypoints")]
    matching = [entry for entry in with_keypoints if tuple(entry["keypoints"]) == skeleton.names]
    if len(matching) > 1:
        raise DataError(f"{annotations}: {several_categories(matching)}")
    if matching:
        return int(matching[0]["id"])
    if with_keypoints:
        name, keypoints = with_keypoints[0]["name"], with_keypoints[0]["keypoints"]
        raise DataError(
            f"{annotations}: category {name!r}: {difference(keypoints, skeleton)}; set 'skeleton' in the config to the "
            "file's keypoints"
        )
    if category is not None:
        if not categories:
            names = [entry["name"] for entry in content.get("categories", [])]
            raise DataError(f"{annotations}: no category '{category}' (data.category); the file has {names}")
        return int(categories[0]["id"])
    return next((int(entry["id"]) for entry in categories if entry.get("name") == "person"), 1)


def _keypoints(annotation: Mapping[str, Any], path: Path, skeleton: Skeleton) -> Sequence[float]:
    keypoints: Sequence[float] = annotation.get("keypoints", ())
    if len(keypoints) != 3 * skeleton.num_keypoints:
        raise DataError(
            f"{path}: annotation {annotation.get('id')} has {len(keypoints)} keypoint numbers, expected "
            f"{3 * skeleton.num_keypoints} (x, y, v for each); run dyconv-pose check-data"
        )
    return keypoints


def _clipped_bbox(annotation: Mapping[str, Any], images: Mapping[int, Mapping[str, Any]], path: Path) -> Array | None:
    image = images.get(annotation["image_id"])
    if image is None:
        raise DataError(
            f"{path}: annotation {annotation.get('id')} is on image {annotation['image_id']}, which the file "
            "does not list; run dyconv-pose check-data"
        )
    if annotation.get("area", 1) <= 0:
        return None
    return clean_box(_bbox(annotation, f"annotation {annotation.get('id')}", path), (image["width"], image["height"]))


def _bbox(entry: Mapping[str, Any], name: str, path: Path) -> Array:
    try:
        bbox = np.asarray(entry["bbox"], dtype=np.float64)
    except (TypeError, ValueError):
        bbox = np.empty(0)
    if bbox.shape != (4,) or not np.isfinite(bbox).all():
        raise DataError(
            f"{path}: {name} has bbox {entry['bbox']}, expected four finite numbers (x, y, width, height); "
            "run dyconv-pose check-data"
        )
    return bbox
