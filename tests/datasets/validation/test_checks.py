"""Data set checks: each invalid value gives one issue; a valid data set gives no errors and no warnings."""

import copy
import json
import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose.datasets.coco import annotated_persons
from pose.datasets.validation.checks import check_annotations, check_detections
from pose.datasets.validation.issues import Issue
from pose.errors import DataError
from pose.skeleton import COCO

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT / "../shared/data/coco_person_small"

Content = dict[str, Any]
Edit = Callable[[Content], object]


def person(number: int, image: int, visibility: int = 2) -> dict[str, Any]:
    keypoints = [value for k in range(17) for value in ((20 + k, 30 + k, visibility) if visibility else (0, 0, 0))]
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [10, 20, 40, 50],
        "area": 1000.0,
        "num_keypoints": 17 if visibility else 0,
        "keypoints": keypoints,
    }


def valid_content() -> Content:
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 80} for i in (1, 2, 3, 4)],
        "annotations": [person(10 * i, i) for i in (1, 2, 3, 4)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.names), "skeleton": [[1, 2]]}],
    }


def valid_boxes() -> list[dict[str, Any]]:
    return [{"image_id": i, "category_id": 1, "bbox": [10, 20, 40, 50], "score": 0.5} for i in (1, 2, 3, 4)]


def save(folder: Path, content: object, name: str = "annotations.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_images(folder: Path, content: Content) -> Path:
    (folder / "images").mkdir()
    for image in content["images"]:
        cv2.imwrite(str(folder / "images" / image["file_name"]), np.zeros((80, 100, 3), np.uint8))
    return folder / "images"


def problems(issues: list[Issue]) -> list[Issue]:
    return [issue for issue in issues if issue.severity != "info"]


def test_a_valid_data_set_gives_only_infos(tmp_path: Path) -> None:
    issues = check_annotations(save(tmp_path, valid_content()), write_images(tmp_path, valid_content()))
    assert problems(issues) == []
    assert [issue.what for issue in issues] == ["4 persons with keypoints"]
    boxes = check_detections(save(tmp_path, valid_boxes(), "boxes.json"), tmp_path / "annotations.json")
    assert [issue.what for issue in boxes] == ["4 boxes; 0 of 4 images have none"]


def change(key: str, value: object, where: str = "annotations", index: int = 1) -> Edit:
    return lambda content: content[where][index].__setitem__(key, value)


def put(key: str, position: int, value: float) -> Edit:
    return lambda content: content["annotations"][1][key].__setitem__(position, value)


@pytest.mark.parametrize(
    ("edit", "severity", "what"),
    [
        (
            lambda c: c["images"].append({**c["images"][0], "file_name": "5"}),
            "error",
            "1 ids of images occur twice (first 1)",
        ),
        (change("file_name", "1.png", "images"), "warning", "2 of 4 images have duplicate file names (1.png, 1.png)"),
        (change("width", None, "images"), "error", "images[1].width (id 2): expected a number, got null"),
        (change("height", "80px", "images"), "error", 'images[1].height (id 2): expected a number, got "80px"'),
        (change("width", -100, "images"), "error", "images[1].width (id 2): expected an integer >= 1, got -100"),
        (change("id", 10), "error", "2 of 4 annotations have duplicate ids (10, 10)"),
        (
            change("image_id", 9),
            "error",
            "1 of 4 annotations are on images that the file does not list (annotation 20: image 9)",
        ),
        (change("category_id", 9), "error", "1 of 4 annotations have a category that the file does not list (20)"),
        (change("keypoints", [], "categories", 0), "error", "no category lists its 'keypoints' names"),
        (change("bbox", [1, 2, 3]), "error", "annotations[1].bbox (id 20): expected a list of length 4, got [1, 2, 3]"),
        (change("bbox", [1, 2, "w", 4]), "error", 'annotations[1].bbox[2] (id 20): expected a number, got "w"'),
        (put("bbox", 0, float("nan")), "error", "not JSON at line 1"),
        (put("bbox", 2, 3e38), "error", "annotations[1].bbox[2] (id 20): expected a number <= 16777216.0, got 3e+38"),
        (
            change("bbox", [10, 10, 1, 1]),
            "warning",
            "have a box of one pixel at most inside their image: not trained on",
        ),
        (put("bbox", 2, 0), "warning", "1 of 4 boxes have no width or height (20)"),
        (put("bbox", 3, -5), "warning", "1 of 4 boxes have no width or height (20)"),
        (put("bbox", 0, -3), "warning", "1 of 4 boxes extend outside their image (20)"),
        (put("bbox", 2, 95), "warning", "1 of 4 boxes extend outside their image (20)"),
        (put("bbox", 1, 70), "warning", "1 of 4 boxes extend outside their image (20)"),
        (change("keypoints", [1, 2, 2]), "error", "1 of 4 persons do not have 51 keypoint numbers (20)"),
        (change("keypoints", None), "error", "annotations[1].keypoints (id 20): expected a list, got null"),
        (put("keypoints", 5, 256), "error", "annotations[1] (id 20): keypoints: expected visibilities 0 (not labeled)"),
        (put("keypoints", 3, 102), "warning", "1 of 4 persons have labeled keypoints outside their image (20)"),
        (put("keypoints", 4, -2), "warning", "1 of 4 persons have labeled keypoints outside their image (20)"),
        (change("num_keypoints", 16), "warning", "1 of 4 persons have a num_keypoints that is not their number"),
        (put("keypoints", 5, 0), "warning", "1 of 4 persons have a num_keypoints that is not their number"),
        (change("area", 0), "error", "1 of 4 persons have no positive 'area' (20)"),
        (lambda content: content["annotations"][1].pop("area"), "error", "have no positive 'area' (20)"),
    ],
)
def test_one_invalid_value_gives_one_issue(tmp_path: Path, edit: Edit, severity: str, what: str) -> None:
    content = valid_content()
    edit(content)
    (issue,) = problems(check_annotations(save(tmp_path, content)))
    assert issue.severity == severity
    assert what in issue.what
    assert ";" in str(issue), "an issue says how to fix it"
    assert "\n" not in str(issue)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (change("iscrowd", 1), "1 of 4 persons are crowds"),
        (lambda content: content["annotations"].__setitem__(1, person(20, 2, visibility=0)), "no labeled keypoint"),
        (lambda content: content["annotations"].pop(), "1 of 4 images have no annotation"),
    ],
)
def test_valid_special_cases_give_only_infos(tmp_path: Path, edit: Edit, what: str) -> None:
    content = valid_content()
    edit(content)
    issues = check_annotations(save(tmp_path, content))
    assert problems(issues) == []
    assert any(what in issue.what for issue in issues)


def test_a_crowd_is_reported_only_as_a_crowd(tmp_path: Path) -> None:
    content = valid_content()
    content["annotations"][1] = {**person(20, 2, visibility=0), "iscrowd": 1}
    content["annotations"][2]["iscrowd"] = 1
    whats = [issue.what for issue in check_annotations(save(tmp_path, content))]
    assert whats == [
        "2 of 4 persons are crowds: not trained on, ignored in evaluation (20, 30)",
        "2 persons with keypoints",
    ]


def test_no_training_persons_is_an_error(tmp_path: Path) -> None:
    content = valid_content()
    content["annotations"] = [person(1, 1, visibility=0)]
    (issue,) = problems(check_annotations(save(tmp_path, content)))
    assert issue.what == "no person has a labeled keypoint"


def test_a_keypoint_category_without_annotations_is_an_error(tmp_path: Path) -> None:
    content = valid_content()
    content["categories"].append({"id": 2, "name": "dog", "keypoints": ["nose", "tail"]})
    (issue,) = problems(check_annotations(save(tmp_path, content)))
    assert issue.what == "category 'dog' has no annotations"


def test_an_issue_counts_all_records_and_names_three(tmp_path: Path) -> None:
    content = valid_content()
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][:-3]
    what = [issue.what for issue in problems(check_annotations(save(tmp_path, content)))]
    assert "4 of 4 persons do not have 51 keypoint numbers (10, 20, 30, ...)" in what


def test_many_boxes_outside_the_image_suggest_the_x1_y1_x2_y2_format(tmp_path: Path) -> None:
    content = valid_content()
    for annotation in content["annotations"]:
        annotation["bbox"] = [40, 20, 80, 70]
    (issue,) = problems(check_annotations(save(tmp_path, content)))
    assert "x1, y1, x2, y2" in issue.todo


def test_a_missing_annotation_file_is_one_error(tmp_path: Path) -> None:
    (issue,) = check_annotations(tmp_path / "nope.json")
    assert (issue.severity, issue.where) == ("error", tmp_path / "nope.json")
    assert issue.what.startswith("no such file")


def select_all(content: Content) -> None:
    """Put every labeled person into one pixel."""
    for annotation in content["annotations"]:
        annotation["bbox"] = [10, 10, 1, 1]


def other_length(content: Content) -> None:
    content["categories"][0]["keypoints"] = []
    content["annotations"][0]["keypoints"] = [1, 1, 2]


@pytest.mark.parametrize("edit", [select_all, other_length, lambda content: content["annotations"].clear()])
def test_check_data_says_yes_only_to_what_training_selects(tmp_path: Path, edit: Edit) -> None:
    content = valid_content()
    edit(content)
    path = save(tmp_path, content)
    with pytest.raises(DataError):
        annotated_persons(path, tmp_path, COCO)
    assert any(issue.severity == "error" for issue in check_annotations(path, skeleton=COCO))


def test_a_file_without_annotations_is_only_for_testing(tmp_path: Path) -> None:
    content = valid_content()
    content["annotations"].clear()
    path, what = save(tmp_path, content), "no annotations: usable only for testing with detector boxes"
    (error,), (info,) = check_annotations(path), check_annotations(path, trained=False)
    assert (error.severity, error.what) == ("error", what)
    assert (info.severity, info.what) == ("info", what)


def test_the_number_of_persons_is_that_of_the_training_set(tmp_path: Path) -> None:
    content = valid_content()
    content["annotations"][0]["bbox"] = [10, 10, 1, 1]
    content["annotations"][1]["iscrowd"] = 1
    path = save(tmp_path, content)
    assert len(annotated_persons(path, tmp_path, COCO)) == 2
    assert "2 persons with keypoints" in [issue.what for issue in check_annotations(path)]


# --- images


def test_missing_images_are_reported(tmp_path: Path) -> None:
    folder = write_images(tmp_path, valid_content())
    (folder / "2.png").unlink()
    (issue,) = problems(check_annotations(save(tmp_path, valid_content()), folder))
    assert (issue.severity, issue.where, issue.what) == ("error", folder, "1 of 4 images are missing (2.png)")


def test_a_missing_image_folder_is_reported(tmp_path: Path) -> None:
    (issue,) = problems(check_annotations(save(tmp_path, valid_content()), tmp_path / "nowhere"))
    assert issue.what == "no such folder of images"


def test_images_of_another_size_and_damaged_images_are_reported(tmp_path: Path) -> None:
    folder = write_images(tmp_path, valid_content())
    cv2.imwrite(str(folder / "1.png"), np.zeros((100, 80, 3), np.uint8))
    (folder / "3.png").write_bytes(b"\x89PNG")
    damaged, resized = problems(check_annotations(save(tmp_path, valid_content()), folder))
    assert damaged.what == "1 of 4 sampled images cannot be read (3.png)"
    assert resized.what == "1 of 4 sampled images have another size than in the annotations (1.png)"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_broken_links_are_missing_images_and_links_to_files_are_not(tmp_path: Path) -> None:
    content = valid_content()
    folder = write_images(tmp_path, content)
    (folder / "1.png").rename(tmp_path / "elsewhere.png")
    (folder / "1.png").symlink_to(tmp_path / "elsewhere.png")
    for name in ("2.png", "3.png", "4.png"):
        (folder / name).unlink()
    os.mkfifo(folder / "2.png")
    (folder / "3.png").symlink_to("3.png")
    (folder / "4.png").symlink_to("/dev/zero")
    (issue,) = problems(check_annotations(save(tmp_path, content), folder))
    assert issue.what == "3 of 4 images are missing (2.png, 3.png, 4.png)"


@pytest.mark.parametrize(
    "name", ["n" * 300 + ".png", "x/" * 3000 + "1.png", "1.png/2.png"], ids=["long", "deep", "file"]
)
def test_names_that_no_file_can_have_are_missing_images(tmp_path: Path, name: str) -> None:
    content = valid_content()
    folder = write_images(tmp_path, content)
    content["images"][0]["file_name"] = name
    (issue,) = problems(check_annotations(save(tmp_path, content), folder))
    assert issue.what.startswith("1 of 4 images are missing")
    assert len(issue.what) < 120


def test_images_may_be_in_subfolders(tmp_path: Path) -> None:
    content = valid_content()
    folder = write_images(tmp_path, content)
    (folder / "sub").mkdir()
    (folder / "1.png").rename(folder / "sub/1.png")
    content["images"][0]["file_name"] = "sub/1.png"
    assert problems(check_annotations(save(tmp_path, content), folder)) == []


# --- boxes


@pytest.mark.parametrize(
    ("key", "value", "severity", "what"),
    [
        ("image_id", 9, "error", "1 of 4 boxes are on images that the annotations do not list (row 1)"),
        ("bbox", [1, 2, 3], "error", "row 1, bbox (image_id 2): expected a list of length 4, got [1, 2, 3]"),
        ("bbox", [1, 2, 1e-9, 1e-9], "warning", "1 of 4 boxes have no width or height (row 1)"),
        ("bbox", [1, 2, 3, -4], "warning", "1 of 4 boxes have no width or height (row 1)"),
        ("bbox", [90, 2, 30, 4], "warning", "1 of 4 boxes extend outside their image (row 1)"),
        ("score", None, "error", "row 1, score (image_id 2): expected a number, got null"),
        ("score", "high", "error", 'row 1, score (image_id 2): expected a number, got "high"'),
        ("score", 85, "warning", "1 of 4 boxes have a score outside 0..1 (row 1)"),
    ],
)
def test_one_invalid_detector_box_gives_one_issue(
    tmp_path: Path, key: str, value: object, severity: str, what: str
) -> None:
    boxes = valid_boxes()
    boxes[1][key] = value
    (issue,) = problems(check_detections(save(tmp_path, boxes, "boxes.json"), save(tmp_path, valid_content())))
    assert issue.severity == severity
    assert what in str(issue)


def test_boxes_of_other_categories_are_an_info(tmp_path: Path) -> None:
    boxes = valid_boxes()
    boxes[0]["category_id"] = 3
    issues = check_detections(save(tmp_path, boxes, "boxes.json"), save(tmp_path, valid_content()))
    assert problems(issues) == []
    assert issues[0].what.startswith("1 of 4 boxes are of other categories")


def test_an_empty_detection_file_is_a_warning(tmp_path: Path) -> None:
    (issue,) = problems(check_detections(save(tmp_path, [], "boxes.json"), save(tmp_path, valid_content())))
    assert issue.what == "no boxes"


def test_annotations_given_as_detections_are_one_error(tmp_path: Path) -> None:
    path = save(tmp_path, valid_content())
    (issue,) = check_detections(path, path)
    assert "expected detector boxes" in issue.what


# --- data/check_data.py


def check_data(*arguments: str) -> int | str | None:
    tool = runpy.run_path(str(ROOT / "data/check_data.py"))
    try:
        tool["run"](tool["main"], arguments)
    except SystemExit as end:
        return end.code
    return 0


def test_the_command_exits_with_0_for_valid_data_and_2_for_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, boxes = save(tmp_path, valid_content()), save(tmp_path, valid_boxes(), "boxes.json")
    arguments = [
        "--annotations",
        str(annotations),
        "--images",
        str(write_images(tmp_path, valid_content())),
        "--detections",
        str(boxes),
    ]
    assert check_data(*arguments) == 0
    assert capsys.readouterr().out.endswith("Data set check passed.\n")
    invalid = copy.deepcopy(valid_content())
    invalid["annotations"][0]["image_id"] = 77
    save(tmp_path, invalid)
    assert check_data(*arguments) == 2
    captured = capsys.readouterr()
    assert "error: " in captured.out
    assert captured.err == "error: data set check failed: fix 1 error above\n"


def test_the_command_needs_a_config_or_annotations(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_data() == 2
    assert "either --cfg or --annotations" in capsys.readouterr().err


def test_the_command_checks_the_data_set_of_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path, valid_content())
    save(tmp_path, valid_content())
    overrides = [
        f"data.{split}_{kind}"
        for split in ("train", "val")
        for kind in ("annotations=annotations.json", "images=images")
    ]
    config = tmp_path / "mine.yaml"
    config.write_text("seed: 1", encoding="utf-8")
    assert check_data("--cfg", str(config), f"data.root={tmp_path}", *overrides) == 0
    assert "no detector boxes; test with --gt-boxes" in capsys.readouterr().out


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/coco_person_small")
def test_a_data_set_of_real_people_has_no_errors() -> None:
    annotations = SHARED / "annotations/person_keypoints_val.json"
    issues = check_annotations(annotations, SHARED / "val", samples=8)
    issues += check_detections(SHARED / "annotations/person_detections_yolox_nano_val.json", annotations)
    assert not [issue for issue in issues if issue.severity == "error"]
    assert any(issue.what == "533 persons with keypoints" for issue in issues)
