"""Layout checks of annotation and detection files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pose.datasets.coco_json import read_annotations, read_detections, read_results
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


def test_annotations_are_read_as_three_lists(tmp_path: Path) -> None:
    content = {"images": [IMAGE], "annotations": [PERSON], "categories": [CATEGORY], "info": {}}
    assert read_annotations(save(tmp_path, content)) == {k: content[k] for k in ("images", "annotations", "categories")}


def test_segmentations_are_dropped(tmp_path: Path) -> None:
    with_segmentation = [
        {**PERSON, "segmentation": [[1, 1, 2, 2, 3, 1]]},
        {**PERSON, "id": 6, "segmentation": {"counts": [3, 4], "size": [6, 8]}},
    ]
    content = {"images": [IMAGE], "annotations": with_segmentation, "categories": [CATEGORY]}

    assert read_annotations(save(tmp_path, content))["annotations"] == [PERSON, {**PERSON, "id": 6}]


def test_an_image_info_file_has_no_annotations(tmp_path: Path) -> None:
    content = {"images": [IMAGE], "categories": [{"id": 1, "name": "person"}]}
    assert read_annotations(save(tmp_path, content))["annotations"] == []


def test_detections_are_a_list(tmp_path: Path) -> None:
    assert read_detections(save(tmp_path, [BOX, BOX])) == [BOX, BOX]
    assert read_detections(save(tmp_path, [])) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "not JSON at line 1, column 2"),
        ("", "is the file complete?"),
        ([BOX], "got a list, as detector boxes or results are"),
        (3, "got int"),
        ({"image": []}, "did you mean 'image'?"),
        ({"images": {}}, "expected a list of images, got dict"),
        ({"images": [3]}, "1 of 1 images lack keys; images[0] needs"),
        ({"images": [IMAGE, {"id": 2}]}, "1 of 2 images lack keys; images[1] needs"),
        ({"images": [IMAGE | {"id": "1"}]}, "expected integers as id of images, got '1'"),
        ({"images": [IMAGE], "annotations": [PERSON]}, "annotations without 'categories'"),
        (
            {"images": [IMAGE], "categories": [CATEGORY], "annotations": [{**PERSON, "image_id": 1.0}]},
            "integers as image_id of annotations, got 1.0",
        ),
        (
            {"images": [IMAGE], "categories": [CATEGORY], "annotations": [PERSON, {"id": 1, "image_id": 1}]},
            "annotations[1] needs ['image_id', 'category_id', 'bbox', 'keypoints'], got ['id', 'image_id']",
        ),
        (
            {
                "images": [IMAGE],
                "categories": [CATEGORY],
                "annotations": [{k: v for k, v in PERSON.items() if k != "keypoints"}],
            },
            "this looks like an instances file, use person_keypoints_*.json",
        ),
    ],
)
def test_annotations_of_another_layout_are_rejected_with_a_remedy(tmp_path: Path, content: Any, expected: str) -> None:
    assert expected in error_message(read_annotations, save(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"images": []},
            "expected detector boxes (a list of image_id, category_id, bbox, score), got COCO annotations",
        ),
        ({"boxes": []}, "got a mapping"),
        ("3", "expected a list of detections, got int"),
        ([{"image_id": 1, "bbox": [0, 0, 1, 1]}], "detections[0] needs"),
        ([BOX, {**BOX, "image_id": None}], "expected integers as image_id of detections, got None"),
    ],
)
def test_detections_of_another_layout_are_rejected(tmp_path: Path, content: Any, expected: str) -> None:
    assert expected in error_message(read_detections, save(tmp_path, content))


def test_results_are_read_as_they_are(tmp_path: Path) -> None:
    assert read_results(save(tmp_path, [RESULT, RESULT]), 1) == [RESULT, RESULT]
    assert read_results(save(tmp_path, []), 1) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"images": []}, "expected keypoint results (a list of image_id, category_id, keypoints, score), got COCO"),
        ([BOX], "results[0] needs"),
        ([RESULT, {**RESULT, "keypoints": [1, 2]}], "row 1 (image 1): expected 3 keypoint numbers"),
        ([{**RESULT, "keypoints": [1, "x", 2]}], "row 0 (image 1): expected 3 keypoint numbers"),
        ([{**RESULT, "keypoints": None}], "row 0 (image 1): expected 3 keypoint numbers"),
        ([{**RESULT, "keypoints": [[1, 2, 3]]}], "row 0 (image 1): expected 3 keypoint numbers"),
        ([{**RESULT, "score": float("nan")}], "a score, all finite"),
        ([{**RESULT, "image_id": "1"}], "expected integers as image_id of results, got '1'"),
    ],
)
def test_results_of_another_layout_are_rejected(tmp_path: Path, content: Any, expected: str) -> None:
    assert expected in error_message(lambda path: read_results(path, 1), save(tmp_path, content))


def test_the_error_of_a_missing_file_suggests_a_similar_name(tmp_path: Path) -> None:
    save(tmp_path, {})
    assert "did you mean 'annotations.json'?" in error_message(read_annotations, tmp_path / "anotations.json")
    assert "no such file" in error_message(read_detections, tmp_path / "nowhere" / "boxes.json")


def test_binary_files_and_folders_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_bytes(b"\x1f\x8b\x08\xff\xfe")
    assert "binary data" in error_message(read_annotations, path)
    assert "cannot be read" in error_message(read_annotations, tmp_path)
