"""COCO keypoint annotations and detector boxes to persons, one row each.

Persons are kept as columns (`Persons`), so that 150,000 of them are a handful of arrays that data-loading processes
share; `Persons.record` gives one of them as a `PersonRecord`. Which persons and boxes count is the protocol of
SimpleBaseline and HRNet, on which published COCO figures rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.datasets.coco_json import read_annotations, read_detections
from pose.errors import DataError
from pose.geometry import clean_box
from pose.skeleton import Skeleton


@dataclass(frozen=True)
class PersonRecord:
    """One person to crop.

    Attributes:
        id: annotation id, or the row of a detector box.
        image_id: of the annotation file.
        image_path: of the image.
        bbox_xywh: (4,) in image pixels.
        score: of the box; 1 for annotated ones.
        keypoints_image: (K, 2) x, y in image pixels; zeros where there is no annotation.
        visibility: (K,) 0 not labelled, 1 hidden, 2 visible.
    """

    id: int
    image_id: int
    image_path: Path
    bbox_xywh: NDArray[np.float64]
    score: float
    keypoints_image: NDArray[np.float64]
    visibility: NDArray[np.uint8]


@dataclass(frozen=True)
class Persons:
    """N persons as columns; see `PersonRecord` for their meaning."""

    image_folder: Path
    file_names: NDArray[np.str_]
    ids: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    bboxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    keypoints_image: NDArray[np.float64]
    visibility: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)

    def record(self, index: int) -> PersonRecord:
        """Return one person."""
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


def annotated_persons(annotations: Path, image_folder: Path, skeleton: Skeleton) -> Persons:
    """Read the persons to train on, or to test on with ground-truth boxes.

    Kept are persons of the skeleton's category that are not crowds and have a labelled keypoint; boxes are cleaned
    (`pose.geometry.clean_box`) and empty ones left out.

    Raises:
        DataError: the file is missing or not COCO keypoint annotations, or no person is left.
    """
    content = read_annotations(annotations)
    category = find_category(content, annotations, skeleton)
    images = {image["id"]: image for image in content["images"]}
    rows = [
        (annotation, bbox)
        for annotation in content["annotations"]
        if annotation["category_id"] == category and not annotation.get("iscrowd", 0)
        if any(_keypoints(annotation, annotations, skeleton)[2::3])
        if (bbox := _cleaned(annotation, images, annotations)) is not None
    ]
    if not rows:
        raise DataError(
            f"{annotations}: no person with a labelled keypoint among {len(content['annotations'])} annotations; "
            "see data/check_data.py"
        )
    keypoints = np.array([annotation["keypoints"] for annotation, _ in rows], dtype=np.float64)
    broken = ~np.isfinite(keypoints).all(axis=1)
    if broken.any():
        first = rows[int(broken.argmax())][0].get("id")
        raise DataError(
            f"{annotations}: {broken.sum()} annotations (first id {first}) have keypoints that are not finite numbers; "
            "see data/check_data.py"
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
    detections: Path, annotations: Path, image_folder: Path, skeleton: Skeleton, threshold: float = 0.0
) -> Persons:
    """Read detector boxes in COCO result format for the images of an annotation (or image-info) file, uncleaned.

    Args:
        detections: boxes of every category; those of the skeleton's category count.
        annotations: names the images; its annotations are not read.
        image_folder: of the images.
        skeleton: the keypoint set.
        threshold: boxes scored lower are left out.

    Raises:
        DataError: a file is missing or in another format, a box is not four finite numbers, or a box names an image
            that ``annotations`` lacks.
    """
    content = read_annotations(annotations)
    category = find_category(content, annotations, skeleton)
    file_names = {image["id"]: image["file_name"] for image in content["images"]}
    rows = [
        (row, box, bbox)
        for row, box in enumerate(read_detections(detections))
        if box["category_id"] == category and box["score"] >= threshold
        if min((bbox := _bbox(box, f"row {row}", detections))[2:]) > 0
    ]
    unknown = sorted({box["image_id"] for _, box, _ in rows} - file_names.keys())
    if unknown:
        raise DataError(
            f"{detections}: {len(unknown)} image ids (first {unknown[0]}) are not in {annotations}; "
            "use the boxes that belong to this annotation file"
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


def find_category(content: Mapping[str, Any], annotations: Path, skeleton: Skeleton) -> int:
    """Return the id of the category that has the skeleton's keypoints (or of 'person', where none lists keypoints).

    Raises:
        DataError: the file's keypoint categories have other keypoints.
    """
    categories: Sequence[Mapping[str, Any]] = content.get("categories", [])
    for category in categories:
        if tuple(category.get("keypoints", ())) == skeleton.names:
            return int(category["id"])
    named = [category for category in categories if category.get("keypoints")]
    if named:
        raise DataError(
            f"{annotations}: category {named[0]['name']!r} has keypoints {named[0]['keypoints']}, the config's "
            f"skeleton has {list(skeleton.names)}; set 'skeleton' in the config to the file's"
        )
    return next((int(category["id"]) for category in categories if category.get("name") == "person"), 1)


def _keypoints(annotation: Mapping[str, Any], path: Path, skeleton: Skeleton) -> Sequence[float]:
    keypoints: Sequence[float] = annotation.get("keypoints", ())
    if len(keypoints) != 3 * skeleton.num_keypoints:
        raise DataError(
            f"{path}: annotation {annotation.get('id')} has {len(keypoints)} keypoint numbers, expected "
            f"{3 * skeleton.num_keypoints} (x, y, v for each); see data/check_data.py"
        )
    return keypoints


def _cleaned(
    annotation: Mapping[str, Any], images: Mapping[int, Mapping[str, Any]], path: Path
) -> NDArray[np.float64] | None:
    image = images.get(annotation["image_id"])
    if image is None:
        raise DataError(
            f"{path}: annotation {annotation.get('id')} is on image {annotation['image_id']}, which the file "
            "does not list; see data/check_data.py"
        )
    if annotation.get("area", 1) <= 0:
        return None
    return clean_box(_bbox(annotation, f"annotation {annotation.get('id')}", path), (image["width"], image["height"]))


def _bbox(entry: Mapping[str, Any], name: str, path: Path) -> NDArray[np.float64]:
    try:
        bbox = np.asarray(entry["bbox"], dtype=np.float64)
    except (TypeError, ValueError):
        bbox = np.empty(0)
    if bbox.shape != (4,) or not np.isfinite(bbox).all():
        raise DataError(
            f"{path}: {name} has bbox {entry['bbox']}, expected four finite numbers (x, y, width, height); "
            "see data/check_data.py"
        )
    return bbox
