"""COCO's two kinds of JSON files, checked at the door: keypoint annotations and detector boxes.

Only the layout is checked here, in time that a training run does not notice; `pose.datasets.validation.checks` looks at
every value. Formats: https://cocodataset.org/#format-data and https://cocodataset.org/#format-results.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pose.errors import DataError, near_name

Record = dict[str, Any]

IMAGE_KEYS = ("id", "file_name", "width", "height")
ANNOTATION_KEYS = ("image_id", "category_id", "bbox", "keypoints")
CATEGORY_KEYS = ("id", "name")
DETECTION_KEYS = ("image_id", "category_id", "bbox", "score")


def read_annotations(path: Path) -> dict[str, list[Record]]:
    """Read a COCO keypoint annotation file, or an image-info file of a test set (no annotations).

    Args:
        path: such as ``annotations/person_keypoints_val2017.json``.

    Returns:
        Its lists ``images``, ``annotations`` (empty for an image-info file) and ``categories``; every record has the
        keys that the project reads (`IMAGE_KEYS`, `ANNOTATION_KEYS`, `CATEGORY_KEYS`). Outlines (``segmentation``) are
        left out: nothing reads them, and they are most of the numbers in COCO's training file.

    Raises:
        DataError: the file is missing, not JSON, or of another layout.
    """
    content = read_json(path, _without_outline)
    if isinstance(content, list):
        raise DataError(f"{path}: expected COCO annotations, got a list; detector boxes and results go elsewhere")
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected COCO annotations (a mapping), got {type(content).__name__}")
    if "images" not in content:
        raise DataError(
            f"{path}: expected COCO annotations with 'images', 'annotations' and 'categories', "
            f"got the keys {sorted(content)[:8]}{near_name('images', content)}"
        )
    lists = {name: content.get(name, []) for name in ("images", "annotations", "categories")}
    _refuse_instances(lists["annotations"], path)
    _require_keys(lists["images"], IMAGE_KEYS, "images", path)
    _require_keys(lists["annotations"], ANNOTATION_KEYS, "annotations", path)
    _require_keys(lists["categories"], CATEGORY_KEYS, "categories", path)
    if lists["annotations"] and not lists["categories"]:
        raise DataError(f"{path}: annotations without 'categories'; add the category 'person' with its keypoint names")
    return lists


def read_detections(path: Path) -> list[Record]:
    """Read person boxes in COCO's result format: a list of image_id, category_id, bbox (xywh) and score.

    Raises:
        DataError: the file is missing, not JSON, or of another layout.
    """
    content = read_json(path)
    if isinstance(content, dict):
        kind = "COCO annotations" if "images" in content else "a mapping"
        raise DataError(f"{path}: expected detector boxes (a list of {', '.join(DETECTION_KEYS)}), got {kind}")
    _require_keys(content, DETECTION_KEYS, "detections", path)
    return list(content)


def read_json(path: Path, change: Callable[[Record], Record] | None = None) -> Any:
    """Parse a JSON file.

    Args:
        path: of the file.
        change: called with each mapping as soon as it is parsed; what it returns takes the mapping's place.

    Raises:
        DataError: there is no such file, it cannot be read, or it is not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes(), object_hook=change)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file{_near_file(Path(path))}; data/README.md shows the layout") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: not JSON at line {error.lineno}, column {error.colno} ({error.msg}); is the download whole?"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected JSON text, got binary data (is it still compressed?)") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _without_outline(record: Record) -> Record:
    record.pop("segmentation", None)
    return record


def _near_file(path: Path) -> str:
    siblings = path.parent.glob("*.json") if path.parent.is_dir() else ()
    return near_name(path.name, (sibling.name for sibling in siblings))


def _refuse_instances(annotations: Any, path: Path) -> None:
    """COCO's boxes-and-masks file is the one most often taken for the keypoint file."""
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
    needed = set(keys)
    bad = [index for index, record in enumerate(records) if not isinstance(record, dict) or not needed <= record.keys()]
    if bad:
        first = records[bad[0]]
        got = sorted(first) if isinstance(first, dict) else repr(first)[:60]
        raise DataError(
            f"{path}: {len(bad)} of {len(records)} {where} lack keys; {where}[{bad[0]}] needs {list(keys)}, got {got}"
        )
    for key in ("id", "image_id", "category_id"):
        wrong = [record[key] for record in records if key in record and type(record[key]) is not int]
        if wrong:
            raise DataError(f"{path}: expected whole numbers as {key} of {where}, got {wrong[0]!r}; renumber them")
