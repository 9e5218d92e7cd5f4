"""Data set checks: find errors in annotations, detector boxes and images; ``dyconv-pose check-data`` prints them.

Each check tests all records at once and yields at most one `Issue`, with the number of failing records and a few of
their ids. To add a check, add a `report_if` to one of the ``_..._issues`` generators: a mask of the failing records and
a message.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose.datasets.coco import select_persons
from pose.datasets.coco_json import (
    AnnotationRow,
    Annotations,
    CategoryRow,
    DetectionRow,
    ImageRow,
    read_annotations,
    read_detections,
)
from pose.datasets.validation.categories import category_issues
from pose.datasets.validation.images import image_issues
from pose.datasets.validation.issues import Issue, duplicated, report_if
from pose.errors import DataError, PoseError
from pose.geometry import Array, clean_box, is_empty
from pose.skeleton import Skeleton, make_skeleton

OUTSIDE_TOLERANCE_PX = 1.0
"""COCO's own boxes extend up to one pixel outside their image."""


def check_annotations(
    annotations: Path,
    image_folder: Path | None = None,
    samples: int = 50,
    skeleton: Skeleton | None = None,
    category: str | None = None,
    trained: bool = True,
) -> list[Issue]:
    """Check a COCO keypoint annotation file and, if a folder is given, its images.

    A file without errors can be trained on: at the end its persons are selected as training does.

    Args:
        annotations: keypoint annotations, or an image-info file of a test set.
        image_folder: folder of the images; checks that all exist and that ``samples`` of them can be read.
        samples: number of images whose size is compared with the annotations.
        skeleton: keypoint set that the file must have.
        category: name of the category that is used (``data.category``).
        trained: whether a file without annotations is an error; False: it is for testing with detector boxes.
    """
    try:
        content = read_annotations(annotations)
    except DataError as error:
        return [_from_error(error, annotations)]
    issues = [*_image_record_issues(annotations, content.images)]
    issues += category_issues(annotations, content.categories, skeleton, category)
    if content.annotations:
        issues += _annotation_issues(annotations, content)
        if not any(issue.severity == "error" for issue in issues):
            issues += _selection_issues(annotations, content, skeleton, category)
    else:
        what = "no annotations: usable only for testing with detector boxes"
        todo = "add annotations; or check it with its boxes: --annotations FILE --detections BOXES"
        issues.append(Issue("error", annotations, what, todo) if trained else Issue("info", annotations, what))
    if image_folder is not None:
        issues += image_issues(image_folder, content.images, samples)
    return issues


def check_detections(detections: Path, annotations: Path) -> list[Issue]:
    """Check detector boxes against the images of an annotation (or image-info) file.

    The annotation file itself is checked by `check_annotations`.
    """
    try:
        content = read_annotations(annotations)
    except DataError:
        return [Issue("info", detections, f"not checked: {annotations} cannot be used")]
    try:
        boxes = read_detections(detections)
    except DataError as error:
        return [_from_error(error, detections)]
    return [*_detection_issues(detections, boxes, content)]


def _from_error(error: PoseError, path: Path) -> Issue:
    return Issue("error", path, str(error).removeprefix(f"{path}: "))


def _image_record_issues(where: Path, images: Sequence[ImageRow]) -> Iterator[Issue]:
    names = [image.file_name for image in images]
    if not images:
        yield Issue("error", where, "lists no images", "check that the file is complete")
    yield from report_if(
        "warning", where, duplicated(names), names, "images have duplicate file names", "list each image once"
    )


def _annotation_issues(where: Path, content: Annotations) -> Iterator[Issue]:
    annotations, categories = content.annotations, content.categories
    ids = [f"row {row}" if annotation.id is None else annotation.id for row, annotation in enumerate(annotations)]
    yield from report_if(
        "error", where, duplicated(ids), ids, "annotations have duplicate ids", "COCO evaluation needs unique ids"
    )
    category_ids = {category.id for category in categories}
    no_category = [annotation.category_id not in category_ids for annotation in annotations]
    yield from report_if(
        "error", where, no_category, ids, "annotations have a category that the file does not list", "add the category"
    )
    with_keypoints = [category for category in categories if category.keypoints]
    if not with_keypoints:
        yield Issue(
            "error", where, "no category lists its 'keypoints' names", "copy the category from a COCO keypoint file"
        )
        return
    images = {image.id: image for image in content.images}
    for category in with_keypoints:
        rows = [row for row, annotation in enumerate(annotations) if annotation.category_id == category.id]
        persons = [annotations[row] for row in rows]
        yield from _person_issues(
            where, persons, [images[person.image_id] for person in persons], [ids[row] for row in rows], category
        )
    unannotated = images.keys() - {annotation.image_id for annotation in annotations}
    if unannotated:
        yield Issue("info", where, f"{len(unannotated)} of {len(images)} images have no annotation")


def _person_issues(
    where: Path,
    persons: Sequence[AnnotationRow],
    images: Sequence[ImageRow],
    ids: Sequence[int | str],
    category: CategoryRow,
) -> Iterator[Issue]:
    """Check the annotations of one category; ``images`` and ``ids`` are those of each annotation."""
    name, count = repr(category.name), len(category.keypoints or ())
    if not persons:
        yield Issue("error", where, f"category {name} has no annotations", "annotate persons, or remove the category")
        return
    sizes_wh = np.array([(image.width, image.height) for image in images], dtype=np.float64)
    yield from _box_issues(where, [person.bbox for person in persons], sizes_wh, ids, "draw the boxes")
    complete = np.array([len(person.keypoints) == 3 * count for person in persons])
    yield from report_if(
        "error", where, ~complete, ids, f"persons do not have {3 * count} keypoint numbers",
        f"write x, y, v for each of the {count} keypoints of category {name}",
    )  # fmt: skip
    blank = [0] * (3 * count)
    keypoints = np.array(
        [person.keypoints if ok else blank for person, ok in zip(persons, complete, strict=True)], dtype=np.float64
    ).reshape(-1, count, 3)
    labeled = keypoints[..., 2] > 0
    outside = _outside(keypoints[..., :2], keypoints[..., :2], sizes_wh[:, None]).any(axis=2)
    yield from report_if(
        "warning", where, (outside & labeled).any(axis=1), ids,
        "persons have labeled keypoints outside their image", "check that image sizes and keypoints match",
    )  # fmt: skip
    yield from _count_issues(where, persons, images, ids, labeled.sum(axis=1), complete)


def _count_issues(
    where: Path,
    persons: Sequence[AnnotationRow],
    images: Sequence[ImageRow],
    ids: Sequence[int | str],
    num_labeled: NDArray[np.int64],
    complete: NDArray[np.bool_],
) -> Iterator[Issue]:
    declared = [person.num_keypoints for person in persons]
    differs = [a is not None and a != b for a, b in zip(declared, num_labeled.tolist(), strict=True)]
    yield from report_if(
        "warning", where, complete & differs, ids,
        "persons have a num_keypoints that is not their number of labeled keypoints",
        "COCO evaluation ignores persons with num_keypoints 0",
    )  # fmt: skip
    no_area = [
        person.area is None or (person.area == 0 and n > 0) for person, n in zip(persons, num_labeled, strict=True)
    ]
    yield from report_if(
        "error", where, no_area, ids, "persons have no positive 'area'",
        "COCO evaluation needs it: set the person's area in square pixels, or 0.53 times the box area",
    )  # fmt: skip
    crowd = np.array([bool(person.iscrowd) for person in persons])
    yield from report_if("info", where, crowd, ids, "persons are crowds: not trained on, ignored in evaluation")
    unlabeled = complete & (num_labeled == 0) & ~crowd
    yield from report_if("info", where, unlabeled, ids, "persons have no labeled keypoint: not trained on")
    no_view = [
        clean_box(person.bbox, (image.width, image.height)) is None
        for person, image in zip(persons, images, strict=True)
    ]
    yield from report_if(
        "warning", where, no_view & (num_labeled > 0) & ~crowd, ids,
        "persons have a box of one pixel at most inside their image: not trained on", "draw their boxes",
    )  # fmt: skip
    if not ((num_labeled > 0) & ~crowd).any():
        yield Issue("error", where, "no person has a labeled keypoint", "is this an image-info or instances file?")


def _selection_issues(
    where: Path, content: Annotations, skeleton: Skeleton | None, category: str | None
) -> Iterator[Issue]:
    """Select the persons as training does, and count them; without a skeleton those of each category."""
    names = [category]
    if skeleton is None:
        names = [entry.name for entry in content.categories if entry.keypoints and category in (None, entry.name)]
    keypoints_of = {entry.name: entry.keypoints or () for entry in content.categories}
    for name in names:
        try:
            keypoint_set = skeleton or make_skeleton(keypoints_of[name or ""])
            persons = select_persons(content, where, where.parent, keypoint_set, name)
        except PoseError as error:
            yield _from_error(error, where)
        else:
            yield Issue("info", where, f"{len(persons)} persons with keypoints")


def _box_issues(
    where: Path, boxes: Sequence[tuple[float, ...]], sizes_wh: Array, names: Sequence[int | str], use: str
) -> Iterator[Issue]:
    """Check boxes; ``use`` says what becomes of empty ones."""
    empty = np.array([is_empty(box) for box in boxes], dtype=bool)
    yield from report_if("warning", where, empty, names, "boxes have no width or height", use)
    bboxes_xywh = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    beyond = _outside(bboxes_xywh[:, :2], bboxes_xywh[:, :2] + bboxes_xywh[:, 2:], sizes_wh)
    outside = np.asarray(~empty & beyond.any(axis=1))
    many = outside.sum() > 0.3 * len(outside)
    todo = "are they x1, y1, x2, y2? COCO uses x, y, width, height" if many else "annotated boxes are clipped"
    yield from report_if("warning", where, outside, names, "boxes extend outside their image", todo)


def _outside(start: Array, end: Array, sizes_wh: Array) -> NDArray[np.bool_]:
    """Return (..., 2), for x and y, whether the interval from ``start`` to ``end`` extends outside the image."""
    return (start < -OUTSIDE_TOLERANCE_PX) | (end > sizes_wh + OUTSIDE_TOLERANCE_PX)


def _detection_issues(where: Path, boxes: Sequence[DetectionRow], content: Annotations) -> Iterator[Issue]:
    sizes_by_id = {image.id: (image.width, image.height) for image in content.images}
    rows = [f"row {row}" for row in range(len(boxes))]
    no_image = [box.image_id not in sizes_by_id for box in boxes]
    yield from report_if(
        "error", where, no_image, rows, "boxes are on images that the annotations do not list",
        "use the detections of this annotation file's images",
    )  # fmt: skip
    sizes_wh = np.array([sizes_by_id.get(box.image_id, (np.inf, np.inf)) for box in boxes]).reshape(-1, 2)
    yield from _box_issues(where, [box.bbox for box in boxes], sizes_wh, rows, "they will be ignored")
    unusual = [not 0 <= box.score <= 1 for box in boxes]
    yield from report_if("warning", where, unusual, rows, "boxes have a score outside 0..1", "are they probabilities?")
    persons = {category.id for category in content.categories if category.keypoints} or {1}
    other_category = [box.category_id not in persons for box in boxes]
    yield from report_if("info", where, other_category, rows, "boxes are of other categories: ignored")
    without_boxes = len(sizes_by_id.keys() - {box.image_id for box in boxes})
    yield Issue("info", where, f"{len(boxes)} boxes; {without_boxes} of {len(sizes_by_id)} images have none")
    if not boxes:
        yield Issue("warning", where, "no boxes", "no person would be detected; check that the detector ran")
