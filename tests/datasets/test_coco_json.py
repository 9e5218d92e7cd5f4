"""Annotations, detector boxes and results: typed rows, and one line for every value of another type or range."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pose.datasets.coco_json import (
    AnnotationRow,
    CategoryRow,
    DetectionRow,
    ImageRow,
    read_annotations,
    read_detections,
    read_results,
)
from pose.errors import DataError

IMAGE = {"id": 1, "file_name": "a.jpg", "width": 8, "height": 6}
PERSON = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 3], "keypoints": [1, 1, 2]}
CATEGORY = {"id": 1, "name": "person", "keypoints": ["nose"]}
RESULT = {"image_id": 1, "category_id": 1, "keypoints": [1.5, 2.0, 0.9], "score": 0.5}
BOX = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 3], "score": 0.5}


def save(folder: Path, content: Any) -> Path:
    path = folder / "annotations.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def error_message(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def content(**changes: Any) -> dict[str, Any]:
    """A file with one image, person and category; ``annotations=...`` and so on replace these lists."""
    return {"images": [IMAGE], "annotations": [PERSON], "categories": [CATEGORY], "info": {}, **changes}


def test_annotations_are_read_into_typed_rows(tmp_path: Path) -> None:
    read = read_annotations(save(tmp_path, content(annotations=[{**PERSON, "area": 4, "iscrowd": 1}])))

    assert read.images == [ImageRow(1, "a.jpg", 8, 6)]
    assert read.annotations == [AnnotationRow(1, 1, (1, 1, 2, 3), [1, 1, 2], 5, 4.0, 1)]
    assert read.categories == [CategoryRow(1, "person", ("nose",))]


def test_fields_that_are_not_used_are_skipped(tmp_path: Path) -> None:
    persons = [
        {**PERSON, "segmentation": [[1, 1, 2, 2, 3, 1]], "attributes": {"occluded": "yes"}},
        {**PERSON, "segmentation": {"counts": "abc", "size": "wrong"}},
    ]
    first, second = read_annotations(save(tmp_path, content(annotations=persons))).annotations
    assert first == second


def test_an_image_info_file_has_no_annotations(tmp_path: Path) -> None:
    info = {"images": [IMAGE], "categories": [{"id": 1, "name": "person"}]}
    assert read_annotations(save(tmp_path, info)).annotations == []


def test_numbers_of_either_kind_and_nulls_of_optional_fields_are_read(tmp_path: Path) -> None:
    person = {**PERSON, "bbox": [1, 1.5, 2, 3], "keypoints": [1.5, 1, 2.0], "iscrowd": False, "area": None, "id": None}
    image = {**IMAGE, "width": 8.0}
    read = read_annotations(save(tmp_path, content(annotations=[person], images=[image])))
    assert read.annotations[0].keypoints == [1.5, 1, 2]
    assert read.images[0].width == 8


HUGE = 10**400
IDS = [None, "1", 1.5, True, [1], 2**63, -(2**63) - 1, HUGE]
"""Values that are no 64-bit integers."""
NUMBERS = ["1", None, True, [1], {}, 3e38, -3e38, HUGE]
"""Values that are no numbers in the range of coordinates."""


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        *(("images", "id", value) for value in IDS),
        *(("annotations", "image_id", value) for value in IDS),
        *(("annotations", "category_id", value) for value in IDS),
        *(("annotations", "id", value) for value in IDS if value is not None),
        *(("categories", "id", value) for value in IDS),
        *(("images", side, value) for side in ("width", "height") for value in (*NUMBERS, "", 0, -8, 8.5, 2**40)),
        *(("images", "file_name", value) for value in (None, 5, "", [], {})),
        *(("annotations", "bbox", [1, value, 3, 4]) for value in NUMBERS),
        *(("annotations", "bbox", value) for value in (5, None, "1 2 3 4", [], [1, 2, 3], [1, 2, 3, 4, 5], {"x": 1})),
        *(("annotations", "keypoints", [1, value, 2]) for value in NUMBERS),
        *(("annotations", "keypoints", value) for value in (5, None, "text", {"nose": [1, 2, 2]}, [[1, 2, 2]])),
        *(("annotations", "area", value) for value in ("9", "", -1, [4], True, 3e38, HUGE)),
        *(("annotations", "iscrowd", value) for value in ("0", 2, -1, 0.5, None, [])),
        *(("annotations", "num_keypoints", value) for value in ("3", -1, 1.5, HUGE, [])),
        *(("categories", "name", value) for value in (None, 5, "", [])),
        *(("categories", "keypoints", value) for value in ("nose", 5, [1], [""], {"nose": 1})),
        *(("categories", "skeleton", value) for value in ("1-2", [1, 2], [[1]], [[1, "2"]], [[1, 2.7]])),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_field_of_another_type_or_range_is_refused_with_row_and_field(
    tmp_path: Path, table: str, field: str, value: Any
) -> None:
    row = {"images": IMAGE, "annotations": PERSON, "categories": CATEGORY}[table]
    rows = [row, {**row, "id": 77, field: value}] if field != "id" else [row, {**row, field: value}]
    path = save(tmp_path, content(**{table: rows}))

    message = error_message(read_annotations, path)
    assert f"{table}[1].{field}" in message
    assert "expected" in message and "got" in message
    if field != "id":
        assert "(id 77)" in message
    assert len(message) < len(str(path)) + 260 and message.isprintable()


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", "9" * 5000], ids=lambda text: text[:9])
@pytest.mark.parametrize("field", ["bbox", "keypoints", "area", "image_id"])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, field: str, text: str) -> None:
    value = {"bbox": [1, "X", 2, 3], "keypoints": ["X", 1, 2]}.get(field, "X")
    written = json.dumps(content(annotations=[{**PERSON, field: value}])).replace('"X"', text)
    message = error_message(read_annotations, save(tmp_path, written))
    assert "finite" in message
    assert ("line 1" if text[-1] in "Ny" else f"annotations[0].{field}") in message


@pytest.mark.parametrize("visibility", [256, 255, 3, -1, 0.5, 1.999])
def test_a_visibility_other_than_0_1_2_is_refused(tmp_path: Path, visibility: float) -> None:
    path = save(tmp_path, content(annotations=[{**PERSON, "keypoints": [1, 1, visibility]}]))
    message = error_message(read_annotations, path)
    assert "annotations[0] (id 5): keypoints: expected visibilities 0 (not labeled), 1 (hidden) or 2" in message
    assert message.endswith(f"got {visibility}; correct the file")


@pytest.mark.parametrize("name", ["../a.jpg", "x/../../a.jpg", "x/..", "/etc/passwd", "/dev/zero", "a\0.jpg", ".."])
def test_a_file_name_outside_of_the_folder_of_images_is_refused(tmp_path: Path, name: str) -> None:
    message = error_message(read_annotations, save(tmp_path, content(images=[{**IMAGE, "file_name": name}])))
    assert "images[0] (id 1): file_name: expected the path of a file below the folder of images" in message


@pytest.mark.parametrize("name", ["a.jpg", "x/a.jpg", "./a.jpg", "a..jpg", "..a/b.jpg", "é ü.jpg"])
def test_file_names_below_the_folder_of_images_are_read(tmp_path: Path, name: str) -> None:
    assert read_annotations(save(tmp_path, content(images=[{**IMAGE, "file_name": name}]))).images[0].file_name == name


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("{", "not JSON at line 1, column 2"),
        ("", "is the file complete?"),
        ([BOX], "expected COCO keypoint annotations (a mapping), such as person_keypoints_*.json, got a list"),
        (3, "got an integer"),
        ({"image": []}, "did you mean 'image'?"),
        ({"images": {}}, "images: expected a list, got {}"),
        ({"images": [3]}, "images[0]: expected a mapping, got 3"),
        ({"images": [IMAGE, {"id": 2}]}, "images[1] (id 2): expected 'file_name', got id"),
        ({"images": [IMAGE], "annotations": [PERSON]}, "annotations without 'categories'"),
        (content(images=[IMAGE, {**IMAGE, "file_name": "b"}]), "1 ids of images occur twice (first 1)"),
        (content(categories=[CATEGORY, {**CATEGORY, "name": "dog"}]), "1 ids of categories occur twice (first 1)"),
        (
            content(annotations=[PERSON, {**PERSON, "image_id": 9, "id": 6}]),
            "1 of 2 annotations are on images that the file does not list (annotation 6: image 9)",
        ),
        (content(annotations=[{**PERSON, "keypoints": [1, 1, 2, 3]}]), "expected x, y, v for each keypoint, got 4"),
        (
            content(annotations=[{key: value for key, value in PERSON.items() if key != "keypoints"}]),
            "annotations[0] (id 5): expected 'keypoints', got id, image_id, category_id, bbox",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_annotations_of_another_layout_are_rejected_with_a_remedy(tmp_path: Path, changed: Any, expected: str) -> None:
    assert expected in error_message(read_annotations, save(tmp_path, changed))


# --- detector boxes


def test_detections_are_a_list_of_typed_rows(tmp_path: Path) -> None:
    box = DetectionRow(1, 1, (1, 1, 2, 3), 0.5)
    assert read_detections(save(tmp_path, [BOX, {**BOX, "area": 6}])) == [box, box]
    assert read_detections(save(tmp_path, [])) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"images": []}, "expected detector boxes (a list of image_id, category_id, bbox, score), got a mapping"),
        ("3", "got an integer"),
        ([{"image_id": 1, "bbox": [0, 0, 1, 1]}], "row 0 (image_id 1): expected 'category_id', got image_id, bbox"),
        ([BOX, {**BOX, "image_id": None}], "row 1, image_id (image_id null): expected an integer, got null"),
        ([BOX, {**BOX, "image_id": 2**63}], "row 1, image_id (image_id 9223372036854775808): expected an integer <= "),
        ([{**BOX, "score": "0.9"}], 'row 0, score (image_id 1): expected a number, got "0.9"'),
        ([{**BOX, "score": 3e38}], "row 0, score (image_id 1): expected a number <= 16777216.0, got 3e+38"),
        ([{**BOX, "bbox": 5}], "row 0, bbox (image_id 1): expected a list, got 5"),
        ([{**BOX, "bbox": [1, 2, 3e38, 4]}], "row 0, bbox[2] (image_id 1): expected a number <= 16777216.0, got 3e+38"),
        (json.dumps([BOX]).replace("0.5", "1e999"), "row 0, score (image_id 1): expected a finite number, got 1e999"),
        (json.dumps([BOX]).replace("0.5", "NaN"), "not JSON at line 1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_detections_of_another_layout_are_rejected(tmp_path: Path, changed: Any, expected: str) -> None:
    assert expected in error_message(read_detections, save(tmp_path, changed))


# --- results


def test_results_are_read_as_they_are(tmp_path: Path) -> None:
    assert read_results(save(tmp_path, [RESULT, {**RESULT, "id": 3}]), 1) == [RESULT, RESULT]
    assert read_results(save(tmp_path, []), 1) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"images": []},
            "expected keypoint results (a list of image_id, category_id, keypoints, score), got a mapping",
        ),
        ([BOX], "row 0 (image_id 1): expected 'keypoints', got "),
        ([RESULT, {**RESULT, "keypoints": [1, 2]}], "row 1 (image 1): expected 3 keypoint numbers"),
        ([{**RESULT, "keypoints": [1, "x", 2]}], 'row 0, keypoints[1] (image_id 1): expected a number, got "x"'),
        ([{**RESULT, "keypoints": None}], "row 0, keypoints (image_id 1): expected a list, got null"),
        ([{**RESULT, "keypoints": [[1, 2, 3]]}], "row 0, keypoints[0] (image_id 1): expected a number, got [1, 2, 3]"),
        ([{**RESULT, "score": float("nan")}], "not JSON at line 1"),
        ([{**RESULT, "image_id": "1"}], 'row 0, image_id (image_id "1"): expected an integer, got "1"'),
    ],
    ids=lambda value: str(value)[:30],
)
def test_results_of_another_layout_are_rejected(tmp_path: Path, changed: Any, expected: str) -> None:
    assert expected in error_message(lambda path: read_results(path, 1), save(tmp_path, changed))
