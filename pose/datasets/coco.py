"""Load persons from COCO keypoint annotations or detector boxes.

Persons are stored as columns (`Persons`): 150,000 of them are a few arrays, which data loading processes share.
`Persons.record` returns one person as a `PersonRecord`. Persons and boxes are filtered as in SimpleBaseline and HRNet,
the protocol of published COCO results.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose.datasets.coco_json import Annotations, CategoryRow, read_annotations, read_detections, require_keypoints
from pose.datasets.keypoint_set import difference, several_categories
from pose.errors import DataError
from pose.geometry import Array, clean_box, is_empty
from pose.json_file import paused_garbage_collection
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
        areas: (N,) annotated areas in square pixels; NaN where the file has none, and for detector boxes.
    """

    image_folder: Path
    file_names: NDArray[np.str_]
    ids: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    bboxes_xywh: Array
    scores: Array
    keypoints_image: Array
    visibility: NDArray[np.uint8]
    areas: Array

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


@paused_garbage_collection()
def annotated_persons(
    annotations: Path, image_folder: Path, skeleton: Skeleton, category: str | None = None
) -> Persons:
    """Load annotated persons for training, or for testing with ground-truth boxes.

    Keeps persons of the skeleton's category that are not crowds and have a labeled keypoint. Boxes are clipped by
    `pose.geometry.clean_box`; persons with an empty box are dropped. ``category`` as in `find_category`.

    Raises:
        DataError: the file is missing or not COCO keypoint annotations, or no person is left.
    """
    return select_persons(read_annotations(annotations), annotations, image_folder, skeleton, category)


def select_persons(
    content: Annotations, path: Path, image_folder: Path, skeleton: Skeleton, category: str | None = None
) -> Persons:
    """Return the persons of an annotation file that was read, as `annotated_persons`; ``path`` is for error messages.

    Raises:
        DataError: as `annotated_persons`.
    """
    category_id = find_category(content.categories, path, skeleton, category)
    sizes_wh = {image.id: (image.width, image.height) for image in content.images}
    persons = [row for row in content.annotations if row.category_id == category_id and not row.iscrowd]
    require_keypoints(persons, skeleton.num_keypoints, path)
    rows = [
        (person, bbox)
        for person in persons
        if any(person.keypoints[2::3]) and person.area != 0
        if (bbox := clean_box(person.bbox, sizes_wh[person.image_id])) is not None
    ]
    if not rows:
        raise DataError(
            f"{path}: no person with a labeled keypoint among {len(content.annotations)} annotations; "
            "run dyconv-pose check-data"
        )
    keypoints = np.array([person.keypoints for person, _ in rows], dtype=np.float64)
    keypoints = keypoints.reshape(len(rows), skeleton.num_keypoints, 3)
    file_names = {image.id: image.file_name for image in content.images}
    return Persons(
        image_folder,
        np.array([file_names[person.image_id] for person, _ in rows]),
        np.array([-1 if person.id is None else person.id for person, _ in rows], dtype=np.int64),
        np.array([person.image_id for person, _ in rows], dtype=np.int64),
        np.array([bbox for _, bbox in rows]),
        np.ones(len(rows)),
        np.where(keypoints[..., 2:] > 0, keypoints[..., :2], 0),
        keypoints[..., 2].astype(np.uint8),
        np.array([np.nan if person.area is None else person.area for person, _ in rows]),
    )


@paused_garbage_collection()
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
    category_id = find_category(content.categories, annotations, skeleton, category)
    file_names = {image.id: image.file_name for image in content.images}
    rows = [
        (row, box)
        for row, box in enumerate(read_detections(detections))
        if box.category_id == category_id and box.score >= threshold and not is_empty(box.bbox)
    ]
    unknown = sorted({box.image_id for _, box in rows} - file_names.keys())
    if unknown:
        raise DataError(
            f"{detections}: {len(unknown)} image ids (first {unknown[0]}) are not in {annotations}; "
            "use the detections of this annotation file's images"
        )
    count = len(rows)
    return Persons(
        image_folder,
        np.array([file_names[box.image_id] for _, box in rows], dtype=np.str_),
        np.array([row for row, _ in rows], dtype=np.int64),
        np.array([box.image_id for _, box in rows], dtype=np.int64),
        np.array([box.bbox for _, box in rows], dtype=np.float64).reshape(count, 4),
        np.array([box.score for _, box in rows], dtype=np.float64),
        np.zeros((count, skeleton.num_keypoints, 2)),
        np.zeros((count, skeleton.num_keypoints), dtype=np.uint8),
        np.full(count, np.nan),
    )


def find_category(
    categories: Sequence[CategoryRow], annotations: Path, skeleton: Skeleton, category: str | None = None
) -> int:
    """Return the id of the category with the skeleton's keypoints, or of 'person' if no category lists keypoints.

    Args:
        categories: of the annotation file.
        annotations: the file, for error messages.
        skeleton: keypoint set.
        category: name of the category, where several have the skeleton's keypoints.

    Raises:
        DataError: the file's categories list other keypoints, or several categories have the skeleton's.
    """
    candidates = [entry for entry in categories if category in (None, entry.name)]
    with_keypoints = [entry for entry in candidates if entry.keypoints]
    matching = [entry for entry in with_keypoints if entry.keypoints == skeleton.names]
    if len(matching) > 1:
        raise DataError(f"{annotations}: {several_categories(matching)}")
    if matching:
        return matching[0].id
    if with_keypoints:
        name, keypoints = with_keypoints[0].name, with_keypoints[0].keypoints or ()
        raise DataError(
            f"{annotations}: category {name!r}: {difference(keypoints, skeleton)}; set 'skeleton' in the config to the "
            "file's keypoints"
        )
    if category is not None:
        if not candidates:
            names = [entry.name for entry in categories]
            raise DataError(f"{annotations}: no category '{category}' (data.category); the file has {names}")
        return candidates[0].id
    return next((entry.id for entry in candidates if entry.name == "person"), 1)
