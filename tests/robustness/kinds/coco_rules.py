"""What COCO files must look like, written independently of the product: which files are valid, and their persons."""

import json
import math
import re
import sys
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np

from pose.skeleton import COCO

Status = Literal["valid", "bad", "open"]
"""Must be accepted with the right values; must be refused; either, but never with a wrong value."""
LARGE, HUGE = 1e7, 1e30
"""Numbers from which a file may be refused, and must be."""


def lenient_json(content: bytes) -> Any:
    """Parse JSON as Python does, but with numbers of any length and deep nesting as an empty list.

    NaN and infinities are parsed, too: the rules of the fields refuse them.

    Raises:
        ValueError: it is not JSON.
    """
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.loads(re.sub(rb"\[{500,}\]{500,}", b"[]", content))
    finally:
        sys.set_int_max_str_digits(limit)


def is_strict(content: bytes) -> bool:
    """Return whether a text is JSON in UTF-8 with finite numbers only."""

    def finite(text: str) -> float:
        value = float(text)
        return value if math.isfinite(value) else reject(text)

    def reject(text: str) -> float:
        raise ValueError(text)

    try:
        json.loads(content.decode("utf-8"), parse_constant=reject, parse_float=finite)
    except (ValueError, RecursionError):
        return False
    return b"[" * 500 not in content and rb"\ud" not in content


def is_id(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < HUGE


def numbers_status(value: Any, count: int) -> Status:
    """Return the status of a list of numbers: bad if there is another number of them, or one that is none."""
    if not isinstance(value, list) or len(value) != count or not all(map(is_number, value)):
        return "bad"
    return "valid" if all(abs(number) < LARGE for number in value) else "open"


def worst(statuses: list[Status]) -> Status:
    return "bad" if "bad" in statuses else "open" if "open" in statuses else "valid"


def annotations_status(content: Any) -> Status:
    """Return the status of COCO annotations of persons with 17 keypoints, for training."""
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        return "bad"
    lists = [content.get(name, []) for name in ("images", "annotations", "categories")]
    if not all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in lists):
        return "bad"
    images, annotations, categories = lists
    if not annotations:
        return "bad"
    if len(categories) != 1:
        return "open" if categories else "bad"
    category = categories[0]
    if not is_id(category.get("id")):
        return "bad"
    if (
        not isinstance(category.get("name"), str)
        or not category["name"]
        or category.get("keypoints") != list(COCO.names)
    ):
        return "open"
    statuses: list[Status] = [_image_status(image) for image in images]
    ids = [image.get("id") for image in images]
    if "bad" in statuses:
        return "bad" if not all(map(is_id, ids)) or not all("file_name" in image for image in images) else "open"
    if len(set(ids)) < len(ids):
        return "bad"
    names = [image["file_name"] for image in images]
    statuses += ["open"] * (len(set(names)) < len(names))
    statuses += [_annotation_status(row, set(ids), category["id"]) for row in annotations]
    own_ids = [row.get("id") for row in annotations]
    if not all(map(is_id, own_ids)) or len(set(own_ids)) < len(own_ids):
        statuses.append("open")
    if not any(_is_trained(row, category["id"]) for row in annotations):
        return "open"
    return worst(statuses)


def _image_status(image: Any) -> Status:
    name = image.get("file_name")
    if not is_id(image.get("id")) or not isinstance(name, str) or not name or "\x00" in name:
        return "bad"
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        return "bad"
    sides = image.get("width"), image.get("height")
    if not all(is_number(side) for side in sides) or min(sides) < 1:
        return "bad"
    return "valid" if all(type(side) is int and side < 10**6 for side in sides) else "open"


def _annotation_status(row: Any, image_ids: set[int], category_id: int) -> Status:
    keys = ("image_id", "category_id")
    if any(key not in row or type(row[key]) is not int for key in keys):
        return "bad"
    if not all(is_id(row[key]) for key in keys):
        return "bad"
    if row["category_id"] != category_id:
        return "open"
    if row["image_id"] not in image_ids:
        return "open" if row.get("iscrowd", 0) != 0 else "bad"
    if type(row.get("iscrowd", 0)) is not int or row.get("iscrowd", 0) not in (0, 1):
        return "open"
    keypoints, box, area = row.get("keypoints"), row.get("bbox"), row.get("area")
    has_area, area = area is not None, 1 if area is None else area  # none is needed for training
    statuses = [numbers_status(keypoints, 51), numbers_status(box, 4), numbers_status([area], 1)]
    count = row.get("num_keypoints", 0)
    has_count = type(count) is int and 0 <= count < 2**63
    if row.get("iscrowd", 0) == 1:
        return "valid" if set(statuses) == {"valid"} and has_count and area >= 0 else "open"
    if statuses[0] == "bad" or not set(keypoints[2::3]) <= {0, 1, 2}:
        return "bad"
    if "bad" in statuses:
        return "bad" if any(keypoints[2::3]) else "open"
    if area <= 0 or min(box[2:]) <= 0 or not has_count or not has_area:
        return "open"
    return worst(statuses)


def _is_trained(row: Any, category_id: int) -> bool:
    return row.get("category_id") == category_id and row.get("iscrowd", 0) == 0


def persons_of(content: Any) -> dict[int, tuple[int, str, tuple[float, ...], np.ndarray, np.ndarray]]:
    """Return image id, file name, box, keypoints and visibility of the trained persons of a valid file, by id."""
    images = {image["id"]: image for image in content["images"]}
    persons = {}
    for row in content["annotations"]:
        if row["category_id"] != content["categories"][0]["id"] or row.get("iscrowd", 0) or row.get("area", 1) <= 0:
            continue
        numbers = np.array(row["keypoints"], float).reshape(17, 3)
        if not numbers[:, 2].any():
            continue
        image = images[row["image_id"]]
        x, y, w, h = row["bbox"]
        left, top = max(0.0, x), max(0.0, y)
        right = min(image["width"] - 1.0, left + max(0.0, w - 1))
        bottom = min(image["height"] - 1.0, top + max(0.0, h - 1))
        if right < left or bottom < top:
            continue
        numbers[numbers[:, 2] == 0] = 0
        box = (left, top, right - left, bottom - top)
        persons[row["id"]] = (row["image_id"], image["file_name"], box, numbers[:, :2], numbers[:, 2])
    return persons


def wrong_persons(loaded: Any, content: Any, status: Status) -> str | None:
    """Return what is wrong with `pose.datasets.coco.Persons` loaded from a file, or None."""
    if not (np.isfinite(loaded.bboxes_xywh).all() and np.isfinite(loaded.keypoints_image).all()):
        return "boxes or keypoints that are not finite"
    if np.abs(loaded.bboxes_xywh).max() > HUGE:
        return f"a box of {np.abs(loaded.bboxes_xywh).max():g}"
    for name, column in (("ids", loaded.ids), ("image_ids", loaded.image_ids)):
        if column.dtype.kind != "i":
            return f"{name} of type {column.dtype}"
    if loaded.visibility.max() > 2:
        return "visibility above 2"
    if status != "valid":
        return _wrong_in_open(loaded, content)
    expected = persons_of(content)
    if sorted(loaded.ids.tolist()) != sorted(expected):
        return f"ids {sorted(loaded.ids.tolist())}, expected {sorted(expected)}"
    for row, person_id in enumerate(loaded.ids.tolist()):
        image_id, file_name, box, keypoints, visibility = expected[person_id]
        same = loaded.image_ids[row] == image_id and str(loaded.file_names[row]) == file_name
        same &= np.allclose(loaded.bboxes_xywh[row], box, rtol=1e-9, atol=1e-9)
        same &= np.array_equal(loaded.keypoints_image[row], keypoints)
        if not (same and np.array_equal(loaded.visibility[row], visibility)):
            return f"person {person_id} differs from the file"
    return None


def _wrong_in_open(loaded: Any, content: Any) -> str | None:
    """Check what holds for every accepted file: each person has the numbers that the file gives for its id."""
    rows: dict[Any, list[Any]] = {}
    for row in content["annotations"]:
        rows.setdefault(row.get("id"), []).append(row)
    for position, person_id in enumerate(loaded.ids.tolist()):
        if len(rows.get(person_id, [])) != 1:
            continue
        row = rows[person_id][0]
        numbers = np.array(row["keypoints"], float).reshape(-1, 3)
        if not np.array_equal(numbers[:, 2], loaded.visibility[position]):
            return f"visibility {loaded.visibility[position].tolist()}, the file has {numbers[:, 2].tolist()}"
        if row["image_id"] != loaded.image_ids[position]:
            return f"person {person_id} is on image {row['image_id']}, loaded on {loaded.image_ids[position]}"
    return None


def rows_status(rows: Any, image_ids: set[int], numbers: int | None) -> Status:
    """Return the status of detector boxes (``numbers`` None) or keypoint results (``numbers``: of the keypoints)."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return "bad"
    statuses: list[Status] = ["valid"]
    for row in rows:
        if type(row.get("image_id")) is not int or type(row.get("category_id")) is not int:
            return "bad"
        status = (
            numbers_status(row.get("bbox"), 4) if numbers is None else numbers_status(row.get("keypoints"), numbers)
        )
        status = worst([status, numbers_status([row.get("score")], 1)])
        counted = row["category_id"] == 1
        if status == "bad":
            statuses.append("bad" if counted else "open")
        elif not is_id(row["image_id"]) or row["image_id"] not in image_ids:
            # A box that is not used, as its score is below 0 or it is empty, may be on any image.
            used = counted and numbers is None and row["score"] >= 0 and min(row["bbox"][2:]) > 0
            statuses.append("bad" if used else "open")
        elif not counted or not 0 <= row["score"] <= 1 or (numbers is None and min(row["bbox"][2:]) <= 0):
            statuses.append("open")
        else:
            statuses.append(status)
    return worst(statuses)
