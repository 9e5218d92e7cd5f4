"""Read COCO JSON files: keypoint annotations, detector boxes and keypoint results.

Only the layout is checked here, which takes little time; `pose.datasets.validation.checks` checks every value.
Formats: https://cocodataset.org/#format-data and https://cocodataset.org/#format-results.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose.errors import DataError, near_name

Record = dict[str, Any]

IMAGE_KEYS = ("id", "file_name", "width", "height")
ANNOTATION_KEYS = ("image_id", "category_id", "bbox", "keypoints")
CATEGORY_KEYS = ("id", "name")
"""Required keys of an image, an annotation and a category."""
DETECTION_KEYS = ("image_id", "category_id", "bbox", "score")
"""Required keys of a detector box."""
RESULT_KEYS = ("image_id", "category_id", "keypoints", "score")
"""Required keys of a keypoint result."""


def read_annotations(path: Path) -> dict[str, list[Record]]:
    """Read a COCO keypoint annotation file, or an image-info file of a test set (no annotations).

    Args:
        path: JSON file, such as ``annotations/person_keypoints_val2017.json``.

    Returns:
        The lists ``images``, ``annotations`` (empty for an image-info file) and ``categories``. Every record has the
        required keys (`IMAGE_KEYS`, `ANNOTATION_KEYS`, `CATEGORY_KEYS`). ``segmentation`` is dropped: it is not used,
        and it is most of the numbers in COCO's training file.

    Raises:
        DataError: the file is missing, not JSON, or has another layout.
    """
    content = read_json(path, _drop_segmentation)
    if isinstance(content, list):
        raise DataError(f"{path}: expected COCO annotations (a mapping), got a list, as detector boxes or results are")
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected COCO annotations (a mapping), got {type(content).__name__}")
    if "images" not in content:
        raise DataError(
            f"{path}: expected COCO annotations with 'images', 'annotations' and 'categories', "
            f"got the keys {sorted(content)[:8]}{near_name('images', content)}"
        )
    lists = {name: content.get(name, []) for name in ("images", "annotations", "categories")}
    _reject_instances(lists["annotations"], path)
    _require_keys(lists["images"], IMAGE_KEYS, "images", path)
    _require_keys(lists["annotations"], ANNOTATION_KEYS, "annotations", path)
    _require_keys(lists["categories"], CATEGORY_KEYS, "categories", path)
    if lists["annotations"] and not lists["categories"]:
        raise DataError(f"{path}: annotations without 'categories'; add the category 'person' with its keypoint names")
    return lists


def read_detections(path: Path) -> list[Record]:
    """Read detector boxes in COCO result format: a list of image_id, category_id, bbox (xywh) and score.

    Raises:
        DataError: the file is missing, not JSON, or has another layout.
    """
    return _read_list(path, DETECTION_KEYS, "detections", "detector boxes")


def read_results(path: Path, num_keypoints: int) -> list[Record]:
    """Read COCO keypoint results: a list of image_id, category_id, keypoints (x, y, score for each) and score.

    Raises:
        DataError: the file is missing, not JSON, has another layout or another number of keypoints, or a number is not
            finite.
    """
    results = _read_list(path, RESULT_KEYS, "results", "keypoint results")
    for row, result in enumerate(results):
        try:
            numbers = np.array([*result["keypoints"], result["score"]], dtype=np.float64)
        except (TypeError, ValueError):
            numbers = np.array([np.nan])
        if numbers.shape != (3 * num_keypoints + 1,) or not np.isfinite(numbers).all():
            raise DataError(
                f"{path}: row {row} (image {result['image_id']}): expected {3 * num_keypoints} keypoint numbers "
                f"(x, y, score for each) and a score, all finite, got {str(result['keypoints'])[:60]}; are these the "
                "results of the config's skeleton?"
            )
    return results


def _read_list(path: Path, keys: Sequence[str], name: str, what: str) -> list[Record]:
    content = read_json(path)
    if isinstance(content, dict):
        kind = "COCO annotations" if "images" in content else "a mapping"
        raise DataError(f"{path}: expected {what} (a list of {', '.join(keys)}), got {kind}")
    _require_keys(content, keys, name, path)
    return list(content)


def read_json(path: Path, object_hook: Callable[[Record], Record] | None = None) -> Any:
    """Parse a JSON file.

    Args:
        path: JSON file.
        object_hook: called with each parsed mapping; its return value replaces the mapping (as in `json.loads`).

    Raises:
        DataError: the file is missing, cannot be read, or is not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes(), object_hook=object_hook)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file{_near_file(Path(path))}; check the path, or data.root: COCO has annotations/, "
            "train2017/ and val2017/ below it"
        ) from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: not JSON at line {error.lineno}, column {error.colno} ({error.msg}); is the file complete?"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected JSON text, got binary data (is it still compressed?)") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _drop_segmentation(record: Record) -> Record:
    record.pop("segmentation", None)
    return record


def _near_file(path: Path) -> str:
    siblings = path.parent.glob("*.json") if path.parent.is_dir() else ()
    return near_name(path.name, (sibling.name for sibling in siblings))


def _reject_instances(annotations: Any, path: Path) -> None:
    """Raise if the annotations have no keypoints: COCO's instances file is often mistaken for the keypoint file."""
    if isinstance(annotations, list) and annotations:
        first = annotations[0]
        if isinstance(first, dict) and "bbox" in first and not any("keypoints" in a for a in annotations):
            raise DataError(
                f"{path}: none of its {len(annotations)} annotations has 'keypoints'; this looks like an instances "
                "file, use person_keypoints_*.json"
            )


def _require_keys(records: Any, keys: Sequence[str], where: str, path: Path) -> None:
    if not isinstance(records, list):
        raise DataError(f"{path}: expected a list of {where}, got {type(records).__name__}")
    required = set(keys)
    invalid = [row for row, item in enumerate(records) if not isinstance(item, dict) or not required <= item.keys()]
    if invalid:
        first = records[invalid[0]]
        got = sorted(first) if isinstance(first, dict) else repr(first)[:60]
        raise DataError(
            f"{path}: {len(invalid)} of {len(records)} {where} lack keys; {where}[{invalid[0]}] needs {list(keys)}, "
            f"got {got}"
        )
    for key in ("id", "image_id", "category_id"):
        wrong = [record[key] for record in records if key in record and type(record[key]) is not int]
        if wrong:
            raise DataError(f"{path}: expected integers as {key} of {where}, got {wrong[0]!r}; renumber them")
