"""Data set checks: find errors in annotations, detector boxes and images; ``dyconv-pose check-data`` prints them.

Each check tests all records at once and yields at most one `Issue`, with the number of failing records and a few of
their ids. To add a check, add a `report_if` to one of the ``_..._issues`` generators: a mask of the failing records and
a message.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.datasets.coco_json import Record, read_annotations, read_detections
from pose.datasets.validation.categories import category_issues
from pose.datasets.validation.images import image_issues
from pose.datasets.validation.issues import Issue, duplicated, number_table, report_if
from pose.errors import DataError
from pose.geometry import Array
from pose.skeleton import Skeleton

OUTSIDE_TOLERANCE_PX = 1.0
"""COCO's own boxes extend up to one pixel outside their image."""


def check_annotations(
    annotations: Path,
    image_folder: Path | None = None,
    samples: int = 50,
    skeleton: Skeleton | None = None,
    category: str | None = None,
) -> list[Issue]:
    """Check a COCO keypoint annotation file and, if a folder is given, its images.

    Args:
        annotations: keypoint annotations, or an image-info file of a test set.
        image_folder: folder of the images; checks that all exist and that ``samples`` of them can be read.
        samples: number of images whose size is compared with the annotations.
        skeleton: keypoint set that the file must have.
        category: name of the category that is used (``data.category``).
    """
    try:
        content = read_annotations(annotations)
    except DataError as error:
        return [_from_error(error, annotations)]
    issues = [*_image_record_issues(annotations, content["images"])]
    issues += category_issues(annotations, content["categories"], skeleton, category)
    if content["annotations"]:
        issues += _annotation_issues(annotations, content)
    else:
        issues.append(Issue("info", annotations, "no annotations: usable only for testing with detector boxes"))
    if image_folder is not None:
        issues += image_issues(image_folder, content["images"], samples)
    return issues


def check_detections(detections: Path, annotations: Path) -> list[Issue]:
    """Check detector boxes against the images of an annotation (or image-info) file."""
    try:
        content = read_annotations(annotations)
        boxes = read_detections(detections)
    except DataError as error:
        return [_from_error(error, detections)]
    return [*_detection_issues(detections, boxes, content)]


def _from_error(error: DataError, path: Path) -> Issue:
    return Issue("error", path, str(error).removeprefix(f"{path}: "))


def _image_record_issues(where: Path, images: Sequence[Record]) -> Iterator[Issue]:
    ids = [image["id"] for image in images]
    names = [image["file_name"] for image in images]
    sizes_wh, malformed = number_table([[image["width"], image["height"]] for image in images], 2)
    if not images:
        yield Issue("error", where, "lists no images", "check that the file is complete")
    yield from report_if(
        "error", where, duplicated(ids), ids, "images have duplicate ids", "give each image its own id"
    )
    yield from report_if(
        "warning", where, duplicated(names), names, "images have duplicate file names", "list each image once"
    )
    invalid_size = malformed | ~(sizes_wh >= 1).all(axis=1)
    yield from report_if(
        "error", where, invalid_size, ids, "images have no valid width and height", "set them in pixels"
    )


def _annotation_issues(where: Path, content: dict[str, list[Record]]) -> Iterator[Issue]:
    annotations, categories = content["annotations"], content["categories"]
    sizes_by_id = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    ids = [annotation.get("id", f"row {row}") for row, annotation in enumerate(annotations)]
    yield from report_if(
        "error", where, duplicated(ids), ids, "annotations have duplicate ids", "COCO evaluation needs unique ids"
    )
    no_image = [annotation["image_id"] not in sizes_by_id for annotation in annotations]
    yield from report_if(
        "error", where, no_image, ids, "annotations are on images that the file does not list",
        "add the images or remove the annotations",
    )  # fmt: skip
    category_ids = {category["id"] for category in categories}
    no_category = [annotation["category_id"] not in category_ids for annotation in annotations]
    yield from report_if(
        "error", where, no_category, ids, "annotations have a category that the file does not list", "add the category"
    )
    with_keypoints = [category for category in categories if category.get("keypoints")]
    if not with_keypoints:
        yield Issue(
            "error", where, "no category lists its 'keypoints' names", "copy the category from a COCO keypoint file"
        )
        return
    for category in with_keypoints:
        persons = [a for a in annotations if a["category_id"] == category["id"] and a["image_id"] in sizes_by_id]
        sizes_wh = np.array([sizes_by_id[person["image_id"]] for person in persons], dtype=object).reshape(-1, 2)
        yield from _person_issues(where, persons, number_table(sizes_wh.tolist(), 2)[0], category)
    unannotated = set(sizes_by_id) - {annotation["image_id"] for annotation in annotations}
    if unannotated:
        yield Issue("info", where, f"{len(unannotated)} of {len(sizes_by_id)} images have no annotation")


def _person_issues(where: Path, persons: Sequence[Record], sizes_wh: Array, category: Record) -> Iterator[Issue]:
    """Check the annotations of one category; ``sizes_wh`` (N, 2) are the sizes of their images."""
    name, count = repr(category.get("name")), len(category["keypoints"])
    if not persons:
        yield Issue("error", where, f"category {name} has no annotations", "annotate persons, or remove the category")
        return
    ids = [person.get("id", f"row {row}") for row, person in enumerate(persons)]
    crowd = np.array([bool(person.get("iscrowd", 0)) for person in persons])
    yield from _box_issues(where, [person["bbox"] for person in persons], sizes_wh, ids)
    lengths = np.array([len(p["keypoints"]) if isinstance(p["keypoints"], list) else -1 for p in persons])
    yield from report_if(
        "error", where, lengths != 3 * count, ids, f"persons do not have {3 * count} keypoint numbers",
        f"write x, y, v for each of the {count} keypoints of category {name}",
    )  # fmt: skip
    keypoints, malformed = number_table([person["keypoints"] for person in persons], 3 * count)
    keypoints = keypoints.reshape(-1, count, 3)
    finite = np.isfinite(keypoints).all(axis=(1, 2))
    not_finite = ~finite & (lengths == 3 * count)
    yield from report_if(
        "error", where, not_finite, ids, "persons have keypoints that are not finite numbers", "fix the keypoints"
    )
    valid = finite & ~malformed
    visibility = keypoints[..., 2]
    yield from report_if(
        "error", where, valid & ~np.isin(visibility, (0, 1, 2)).all(axis=1), ids,
        "persons have visibilities other than 0, 1, 2", "0: not labeled, 1: hidden, 2: visible",
    )  # fmt: skip
    outside = _outside(keypoints[..., :2], keypoints[..., :2], sizes_wh[:, None])
    yield from report_if(
        "warning", where, valid & (outside.any(axis=2) & (visibility > 0)).any(axis=1), ids,
        "persons have labeled keypoints outside their image", "check that image sizes and keypoints match",
    )  # fmt: skip
    yield from _count_issues(where, persons, ids, (visibility > 0).sum(axis=1), valid, crowd)


def _count_issues(
    where: Path,
    persons: Sequence[Record],
    ids: Sequence[Any],
    num_labeled: NDArray[np.int64],
    valid: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
) -> Iterator[Issue]:
    declared = [person.get("num_keypoints", count) for person, count in zip(persons, num_labeled.tolist(), strict=True)]
    differs = valid & np.array([a != b for a, b in zip(declared, num_labeled.tolist(), strict=True)])
    yield from report_if(
        "warning", where, differs, ids, "persons have a num_keypoints that is not their number of labeled keypoints",
        "COCO evaluation ignores persons with num_keypoints 0",
    )  # fmt: skip
    areas, _ = number_table([[person.get("area")] for person in persons], 1)
    yield from report_if(
        "error", where, ~(areas[:, 0] > 0) & (num_labeled > 0), ids, "persons with keypoints have no positive 'area'",
        "COCO evaluation needs it: set the person's area in square pixels, or 0.53 times the box area",
    )  # fmt: skip
    yield from report_if("info", where, crowd, ids, "persons are crowds: not trained on, ignored in evaluation")
    unlabeled = valid & (num_labeled == 0) & ~crowd
    yield from report_if("info", where, unlabeled, ids, "persons have no labeled keypoint: not trained on")
    num_trained = int((valid & (num_labeled > 0) & ~crowd).sum())
    if num_trained:
        yield Issue("info", where, f"{num_trained} persons with keypoints")
    else:
        yield Issue("error", where, "no person has a labeled keypoint", "is this an image-info or instances file?")


def _box_issues(where: Path, boxes: Sequence[Any], sizes_wh: Array, names: Sequence[Any]) -> Iterator[Issue]:
    bboxes_xywh, malformed = number_table(boxes, 4)
    yield from report_if("error", where, malformed, names, "boxes are not four numbers", "write x, y, width, height")
    finite = np.isfinite(bboxes_xywh).all(axis=1)
    yield from report_if("error", where, ~finite & ~malformed, names, "boxes are not finite numbers", "fix the boxes")
    empty = finite & (bboxes_xywh[:, 2:] <= 0).any(axis=1)
    yield from report_if("warning", where, empty, names, "boxes have no width or height", "they will be ignored")
    beyond = _outside(bboxes_xywh[:, :2], bboxes_xywh[:, :2] + bboxes_xywh[:, 2:], sizes_wh)
    outside = np.asarray(finite & ~empty & beyond.any(axis=1))
    many = outside.sum() > 0.3 * len(outside)
    todo = "are they x1, y1, x2, y2? COCO uses x, y, width, height" if many else "annotated boxes are clipped"
    yield from report_if("warning", where, outside, names, "boxes extend outside their image", todo)


def _outside(start: Array, end: Array, sizes_wh: Array) -> NDArray[np.bool_]:
    """Return (..., 2), for x and y, whether the interval from ``start`` to ``end`` extends outside the image."""
    return (start < -OUTSIDE_TOLERANCE_PX) | (end > sizes_wh + OUTSIDE_TOLERANCE_PX)


def _detection_issues(where: Path, boxes: Sequence[Record], content: dict[str, list[Record]]) -> Iterator[Issue]:
    sizes_by_id = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    rows = [f"row {row}" for row in range(len(boxes))]
    no_image = [box["image_id"] not in sizes_by_id for box in boxes]
    yield from report_if(
        "error", where, no_image, rows, "boxes are on images that the annotations do not list",
        "use the detections of this annotation file's images",
    )  # fmt: skip
    sizes_wh, _ = number_table([list(sizes_by_id.get(box["image_id"], (np.inf, np.inf))) for box in boxes], 2)
    yield from _box_issues(where, [box["bbox"] for box in boxes], sizes_wh, rows)
    scores, _ = number_table([[box["score"]] for box in boxes], 1)
    finite = np.isfinite(scores[:, 0])
    yield from report_if(
        "error", where, ~finite, rows, "boxes have a score that is not a finite number", "fix the scores"
    )
    unusual = finite & ((scores[:, 0] < 0) | (scores[:, 0] > 1))
    yield from report_if("warning", where, unusual, rows, "boxes have a score outside 0..1", "are they probabilities?")
    persons = {category["id"] for category in content["categories"] if category.get("keypoints")} or {1}
    other_category = [box["category_id"] not in persons for box in boxes]
    yield from report_if("info", where, other_category, rows, "boxes are of other categories: ignored")
    without_boxes = len(sizes_by_id.keys() - {box["image_id"] for box in boxes})
    yield Issue("info", where, f"{len(boxes)} boxes; {without_boxes} of {len(sizes_by_id)} images have none")
    if not boxes:
        yield Issue("warning", where, "no boxes", "no person would be detected; check that the detector ran")
