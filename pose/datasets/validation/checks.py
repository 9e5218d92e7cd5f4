"""What is wrong with a data set, where, and what to do about it; ``data/check_data.py`` prints it.

Every check looks at all records at once and gives at most one `Issue`, with how many records it concerns and a few
of them by id. To add a check, add a line to one of the ``_..._findings`` generators: a mask of the records that are
wrong, and the words.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.datasets.coco_json import Record, read_annotations, read_detections
from pose.datasets.validation.images import image_issues
from pose.datasets.validation.issues import Issue, found, numbers, repeated
from pose.errors import DataError

OUTSIDE_TOLERANCE_PX = 1.0
"""COCO's own boxes end up to a pixel outside their image."""


def check_annotations(annotations: Path, image_folder: Path | None = None, samples: int = 50) -> list[Issue]:
    """Check a COCO keypoint annotation file and, if a folder is given, the images that it names.

    Args:
        annotations: keypoint annotations, or an image-info file of a test set.
        image_folder: of the images; every name is looked up, ``samples`` images are opened.
        samples: images whose size is compared with the file's.
    """
    try:
        content = read_annotations(annotations)
    except DataError as error:
        return [_from_error(error, annotations)]
    issues = [*_image_findings(annotations, content["images"])]
    if content["annotations"]:
        issues += _annotation_findings(annotations, content)
    else:
        issues.append(Issue("info", annotations, "no annotations: good for testing with detector boxes only"))
    if image_folder is not None:
        issues += image_issues(image_folder, content["images"], samples)
    return issues


def check_detections(detections: Path, annotations: Path) -> list[Issue]:
    """Check a file of detector boxes against the images of an annotation (or image-info) file."""
    try:
        content = read_annotations(annotations)
        boxes = read_detections(detections)
    except DataError as error:
        return [_from_error(error, detections)]
    return [*_detection_findings(detections, boxes, content)]


def _from_error(error: DataError, path: Path) -> Issue:
    return Issue("error", path, str(error).removeprefix(f"{path}: "))


def _image_findings(where: Path, images: Sequence[Record]) -> Iterator[Issue]:
    ids = [image["id"] for image in images]
    names = [image["file_name"] for image in images]
    sizes, malformed = numbers([[image["width"], image["height"]] for image in images], 2)
    if not images:
        yield Issue("error", where, "lists no images", "is this the whole file?")
    yield from found("error", where, repeated(ids), ids, "images share their id", "give each image its own id")
    yield from found("warning", where, repeated(names), names, "images share their file name", "list each once")
    too_small = malformed | ~(sizes >= 1).all(axis=1)
    yield from found("error", where, too_small, ids, "images have no usable width and height", "write them in pixels")


def _annotation_findings(where: Path, content: dict[str, list[Record]]) -> Iterator[Issue]:
    everything, categories = content["annotations"], content["categories"]
    known_images = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    ids = [annotation.get("id", f"row {row}") for row, annotation in enumerate(everything)]
    yield from found(
        "error", where, repeated(ids), ids, "annotations share their id", "COCO's evaluation needs different ids"
    )
    astray = [annotation["image_id"] not in known_images for annotation in everything]
    yield from found(
        "error",
        where,
        astray,
        ids,
        "annotations are on images that the file does not list",
        "add the images or drop them",
    )
    category_ids = {category["id"] for category in categories}
    unknown = [annotation["category_id"] not in category_ids for annotation in everything]
    yield from found(
        "error", where, unknown, ids, "annotations have a category that the file does not list", "add the category"
    )
    with_keypoints = [category for category in categories if category.get("keypoints")]
    if not with_keypoints:
        yield Issue(
            "error", where, "no category lists its 'keypoints' names", "copy the category from a COCO keypoint file"
        )
        return
    for category in with_keypoints:
        persons = [a for a in everything if a["category_id"] == category["id"] and a["image_id"] in known_images]
        sizes_wh = np.array([known_images[person["image_id"]] for person in persons], dtype=object).reshape(-1, 2)
        yield from _person_findings(where, persons, numbers(sizes_wh.tolist(), 2)[0], category)
    bare = set(known_images) - {annotation["image_id"] for annotation in everything}
    if bare:
        yield Issue("info", where, f"{len(bare)} of {len(known_images)} images have no annotation")


def _person_findings(
    where: Path, persons: Sequence[Record], sizes_wh: NDArray[np.float64], category: Record
) -> Iterator[Issue]:
    """Check the annotations of one category; ``sizes_wh`` (N, 2) are the sizes of their images."""
    name, count = repr(category.get("name")), len(category["keypoints"])
    if not persons:
        yield Issue("error", where, f"category {name} is empty", "nobody to train on: annotate, or drop the category")
        return
    ids = [person.get("id", f"row {row}") for row, person in enumerate(persons)]
    crowd = np.array([bool(person.get("iscrowd", 0)) for person in persons])
    yield from _box_findings(where, [person["bbox"] for person in persons], sizes_wh, ids)
    lengths = np.array([len(p["keypoints"]) if isinstance(p["keypoints"], list) else -1 for p in persons])
    yield from found(
        "error", where, lengths != 3 * count, ids, f"persons have not {3 * count} keypoint numbers",
        f"write x, y, v for each of the {count} keypoints of category {name}",
    )  # fmt: skip
    keypoints, malformed = numbers([person["keypoints"] for person in persons], 3 * count)
    keypoints = keypoints.reshape(-1, count, 3)
    not_finite = ~np.isfinite(keypoints).all(axis=(1, 2)) & (lengths == 3 * count)
    yield from found("error", where, not_finite, ids, "persons have keypoints that are not finite numbers", "mend them")
    readable = np.isfinite(keypoints).all(axis=(1, 2)) & ~malformed
    visibility = keypoints[..., 2]
    yield from found(
        "error", where, readable & ~np.isin(visibility, (0, 1, 2)).all(axis=1), ids,
        "persons have visibilities other than 0, 1, 2", "0: not labelled, 1: hidden, 2: visible",
    )  # fmt: skip
    outside = _outside(keypoints[..., :2], keypoints[..., :2], sizes_wh[:, None])
    yield from found(
        "warning", where, readable & (outside.any(axis=2) & (visibility > 0)).any(axis=1), ids,
        "persons have labelled keypoints outside their image", "do sizes and keypoints belong together?",
    )  # fmt: skip
    yield from _count_findings(where, persons, ids, (visibility > 0).sum(axis=1), readable, crowd)


def _count_findings(
    where: Path,
    persons: Sequence[Record],
    ids: Sequence[Any],
    labelled: NDArray[np.int64],
    readable: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
) -> Iterator[Issue]:
    stated = [person.get("num_keypoints", count) for person, count in zip(persons, labelled.tolist(), strict=True)]
    differs = readable & np.array([a != b for a, b in zip(stated, labelled.tolist(), strict=True)])
    yield from found(
        "warning", where, differs, ids, "persons have a num_keypoints that is not their number of labelled keypoints",
        "COCO's evaluation ignores persons with num_keypoints 0",
    )  # fmt: skip
    areas, _ = numbers([[person.get("area")] for person in persons], 1)
    yield from found(
        "error", where, ~(areas[:, 0] > 0) & (labelled > 0), ids, "persons with keypoints have no positive 'area'",
        "COCO's evaluation measures by it: write the person's area in square pixels, or that of the box times 0.53",
    )  # fmt: skip
    yield from found("info", where, crowd, ids, "persons are crowds: never trained on, never counted against you")
    without = readable & (labelled == 0) & ~crowd
    yield from found("info", where, without, ids, "persons have no labelled keypoint: not trained on")
    trained = int((readable & (labelled > 0) & ~crowd).sum())
    if trained:
        yield Issue("info", where, f"{trained} persons with keypoints")
    else:
        yield Issue("error", where, "no person has a labelled keypoint", "is this an image-info or instances file?")


def _box_findings(
    where: Path, boxes: Sequence[Any], sizes_wh: NDArray[np.float64], names: Sequence[Any]
) -> Iterator[Issue]:
    bboxes_xywh, malformed = numbers(boxes, 4)
    yield from found("error", where, malformed, names, "boxes are not four numbers", "write x, y, width, height")
    finite = np.isfinite(bboxes_xywh).all(axis=1)
    yield from found("error", where, ~finite & ~malformed, names, "boxes are not finite numbers", "mend them")
    empty = finite & (bboxes_xywh[:, 2:] <= 0).any(axis=1)
    yield from found("warning", where, empty, names, "boxes have no width or height", "they will be left out")
    beyond = _outside(bboxes_xywh[:, :2], bboxes_xywh[:, :2] + bboxes_xywh[:, 2:], sizes_wh)
    outside = np.asarray(finite & ~empty & beyond.any(axis=1))
    many = outside.sum() > 0.3 * len(outside)
    todo = "are they x1, y1, x2, y2? COCO has x, y, width, height" if many else "annotated ones are clipped"
    yield from found("warning", where, outside, names, "boxes reach outside their image", todo)


def _outside(start: NDArray[np.float64], end: NDArray[np.float64], sizes_wh: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (..., 2), by axis, whether what goes from ``start`` to ``end`` leaves its image."""
    return (start < -OUTSIDE_TOLERANCE_PX) | (end > sizes_wh + OUTSIDE_TOLERANCE_PX)


def _detection_findings(where: Path, boxes: Sequence[Record], content: dict[str, list[Record]]) -> Iterator[Issue]:
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    rows = [f"row {row}" for row in range(len(boxes))]
    astray = [box["image_id"] not in sizes for box in boxes]
    yield from found(
        "error", where, astray, rows, "boxes are on images that the annotations do not list",
        "use the boxes that belong to this annotation file",
    )  # fmt: skip
    sizes_wh, _ = numbers([list(sizes.get(box["image_id"], (np.inf, np.inf))) for box in boxes], 2)
    yield from _box_findings(where, [box["bbox"] for box in boxes], sizes_wh, rows)
    scores, _ = numbers([[box["score"]] for box in boxes], 1)
    finite = np.isfinite(scores[:, 0])
    yield from found("error", where, ~finite, rows, "boxes have a score that is not a finite number", "mend them")
    unusual = finite & ((scores[:, 0] < 0) | (scores[:, 0] > 1))
    yield from found("warning", where, unusual, rows, "boxes have a score outside 0..1", "are these probabilities?")
    persons = {category["id"] for category in content["categories"] if category.get("keypoints")} or {1}
    others = [box["category_id"] not in persons for box in boxes]
    yield from found("info", where, others, rows, "boxes are of other categories: left out")
    bare = len(sizes.keys() - {box["image_id"] for box in boxes})
    yield Issue("info", where, f"{len(boxes)} boxes; {bare} of {len(sizes)} images have none")
    if not boxes:
        yield Issue("warning", where, "holds no boxes", "nobody would be found; did the detector run?")
