"""Each way to spoil a good data set is found, named and counted; a good one gives no error and no warning."""

import copy
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose.datasets.validation.checks import check_annotations, check_detections
from pose.datasets.validation.issues import Issue
from pose.skeleton import COCO

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT / "../shared/data/coco_person_small"

Content = dict[str, Any]
Spoil = Callable[[Content], object]


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


def good() -> Content:
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 80} for i in (1, 2, 3, 4)],
        "annotations": [person(10 * i, i) for i in (1, 2, 3, 4)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.names), "skeleton": [[1, 2]]}],
    }


def good_boxes() -> list[dict[str, Any]]:
    return [{"image_id": i, "category_id": 1, "bbox": [10, 20, 40, 50], "score": 0.5} for i in (1, 2, 3, 4)]


def save(folder: Path, content: object, name: str = "annotations.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def draw(folder: Path, content: Content) -> Path:
    (folder / "images").mkdir()
    for image in content["images"]:
        cv2.imwrite(str(folder / "images" / image["file_name"]), np.zeros((80, 100, 3), np.uint8))
    return folder / "images"


def loud(issues: list[Issue]) -> list[Issue]:
    return [finding for finding in issues if finding.severity != "info"]


def test_a_good_data_set_gives_only_counts(tmp_path: Path) -> None:
    issues = check_annotations(save(tmp_path, good()), draw(tmp_path, good()))
    assert loud(issues) == []
    assert [finding.what for finding in issues] == ["4 persons with keypoints"]
    boxes = check_detections(save(tmp_path, good_boxes(), "boxes.json"), tmp_path / "annotations.json")
    assert [finding.what for finding in boxes] == ["4 boxes; 0 of 4 images have none"]


def change(key: str, value: object, where: str = "annotations", index: int = 1) -> Spoil:
    return lambda content: content[where][index].__setitem__(key, value)


def put(key: str, position: int, value: float) -> Spoil:
    return lambda content: content["annotations"][1][key].__setitem__(position, value)


@pytest.mark.parametrize(
    ("spoil", "severity", "what"),
    [
        (
            lambda c: c["images"].append({**c["images"][0], "file_name": "5"}),
            "error",
            "2 of 5 images share their id (1, 1)",
        ),
        (change("file_name", "1.png", "images"), "warning", "2 of 4 images share their file name (1.png, 1.png)"),
        (change("width", None, "images"), "error", "1 of 4 images have no usable width and height (2)"),
        (change("height", None, "images"), "error", "1 of 4 images have no usable width and height (2)"),
        (change("height", "80px", "images"), "error", "1 of 4 images have no usable width and height (2)"),
        (change("id", 10), "error", "2 of 4 annotations share their id (10, 10)"),
        (change("image_id", 9), "error", "1 of 4 annotations are on images that the file does not list (20)"),
        (change("category_id", 9), "error", "1 of 4 annotations have a category that the file does not list (20)"),
        (change("keypoints", [], "categories", 0), "error", "no category lists its 'keypoints' names"),
        (change("bbox", [1, 2, 3]), "error", "1 of 4 boxes are not four numbers (20)"),
        (change("bbox", None), "error", "1 of 4 boxes are not four numbers (20)"),
        (change("bbox", [1, 2, "wide", 4]), "error", "1 of 4 boxes are not four numbers (20)"),
        (put("bbox", 0, float("nan")), "error", "1 of 4 boxes are not finite numbers (20)"),
        (put("bbox", 2, float("inf")), "error", "1 of 4 boxes are not finite numbers (20)"),
        (put("bbox", 2, 0), "warning", "1 of 4 boxes have no width or height (20)"),
        (put("bbox", 3, -5), "warning", "1 of 4 boxes have no width or height (20)"),
        (put("bbox", 0, -3), "warning", "1 of 4 boxes reach outside their image (20)"),
        (put("bbox", 2, 95), "warning", "1 of 4 boxes reach outside their image (20)"),
        (put("bbox", 1, 300), "warning", "1 of 4 boxes reach outside their image (20)"),
        (change("keypoints", [1, 2, 2]), "error", "1 of 4 persons have not 51 keypoint numbers (20)"),
        (change("keypoints", None), "error", "1 of 4 persons have not 51 keypoint numbers (20)"),
        (put("keypoints", 4, float("nan")), "error", "1 of 4 persons have keypoints that are not finite numbers (20)"),
        (put("keypoints", 5, 3), "error", "1 of 4 persons have visibilities other than 0, 1, 2 (20)"),
        (put("keypoints", 5, 0.5), "error", "1 of 4 persons have visibilities other than 0, 1, 2 (20)"),
        (put("keypoints", 3, 102), "warning", "1 of 4 persons have labelled keypoints outside their image (20)"),
        (put("keypoints", 4, -2), "warning", "1 of 4 persons have labelled keypoints outside their image (20)"),
        (change("num_keypoints", 16), "warning", "1 of 4 persons have a num_keypoints that is not their number"),
        (put("keypoints", 5, 0), "warning", "1 of 4 persons have a num_keypoints that is not their number"),
        (change("area", 0), "error", "1 of 4 persons with keypoints have no positive 'area' (20)"),
        (lambda content: content["annotations"][1].pop("area"), "error", "have no positive 'area' (20)"),
    ],
)
def test_one_spoilt_value_gives_one_finding(tmp_path: Path, spoil: Spoil, severity: str, what: str) -> None:
    content = good()
    spoil(content)
    (finding,) = loud(check_annotations(save(tmp_path, content)))
    assert finding.severity == severity
    assert what in finding.what
    assert finding.todo, "it says what to do"
    assert "\n" not in str(finding)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (change("iscrowd", 1), "1 of 4 persons are crowds"),
        (lambda content: content["annotations"].__setitem__(1, person(20, 2, visibility=0)), "no labelled keypoint"),
        (lambda content: content["annotations"].pop(), "1 of 4 images have no annotation"),
        (lambda content: content["annotations"].clear(), "no annotations: good for testing with detector boxes only"),
    ],
)
def test_what_is_normal_is_only_counted(tmp_path: Path, spoil: Spoil, what: str) -> None:
    content = good()
    spoil(content)
    issues = check_annotations(save(tmp_path, content))
    assert loud(issues) == []
    assert any(what in finding.what for finding in issues)


def test_a_crowd_is_only_a_crowd(tmp_path: Path) -> None:
    content = good()
    content["annotations"][1] = {**person(20, 2, visibility=0), "iscrowd": 1}
    content["annotations"][2]["iscrowd"] = 1
    whats = [finding.what for finding in check_annotations(save(tmp_path, content))]
    assert whats == [
        "2 of 4 persons are crowds: never trained on, never counted against you (20, 30)",
        "2 persons with keypoints",
    ]


def test_nobody_to_train_on_is_an_error(tmp_path: Path) -> None:
    content = good()
    content["annotations"] = [person(1, 1, visibility=0)]
    (finding,) = loud(check_annotations(save(tmp_path, content)))
    assert finding.what == "no person has a labelled keypoint"


def test_an_empty_keypoint_category_is_an_error(tmp_path: Path) -> None:
    content = good()
    content["categories"].append({"id": 2, "name": "dog", "keypoints": ["nose", "tail"]})
    (finding,) = loud(check_annotations(save(tmp_path, content)))
    assert finding.what == "category 'dog' is empty"


def test_examples_are_few_and_the_count_is_whole(tmp_path: Path) -> None:
    content = good()
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][:-3]
    what = [finding.what for finding in loud(check_annotations(save(tmp_path, content)))]
    assert "4 of 4 persons have not 51 keypoint numbers (10, 20, 30, ...)" in what


def test_many_boxes_outside_are_suspected_to_be_corners(tmp_path: Path) -> None:
    content = good()
    for annotation in content["annotations"]:
        annotation["bbox"] = [40, 20, 80, 70]
    (finding,) = loud(check_annotations(save(tmp_path, content)))
    assert "x1, y1, x2, y2" in finding.todo


def test_a_file_that_is_not_annotations_is_one_error(tmp_path: Path) -> None:
    (finding,) = check_annotations(tmp_path / "nope.json")
    assert (finding.severity, finding.where) == ("error", tmp_path / "nope.json")
    assert finding.what.startswith("no such file")


# --- images


def test_missing_images_are_named(tmp_path: Path) -> None:
    folder = draw(tmp_path, good())
    (folder / "2.png").unlink()
    (finding,) = loud(check_annotations(save(tmp_path, good()), folder))
    assert (finding.severity, finding.where, finding.what) == ("error", folder, "1 of 4 images are missing (2.png)")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    (finding,) = loud(check_annotations(save(tmp_path, good()), tmp_path / "nowhere"))
    assert finding.what == "no such folder of images"


def test_a_image_of_another_size_and_one_that_is_broken_are_found(tmp_path: Path) -> None:
    folder = draw(tmp_path, good())
    cv2.imwrite(str(folder / "1.png"), np.zeros((100, 80, 3), np.uint8))
    (folder / "3.png").write_bytes(b"\x89PNG")
    broken, unlike = loud(check_annotations(save(tmp_path, good()), folder))
    assert broken.what == "1 of 4 sampled images cannot be read (3.png)"
    assert unlike.what == "1 of 4 sampled images have another size than the annotations say (1.png)"


def test_images_may_lie_in_subfolders(tmp_path: Path) -> None:
    content = good()
    folder = draw(tmp_path, content)
    (folder / "sub").mkdir()
    (folder / "1.png").rename(folder / "sub/1.png")
    content["images"][0]["file_name"] = "sub/1.png"
    assert loud(check_annotations(save(tmp_path, content), folder)) == []


# --- boxes


@pytest.mark.parametrize(
    ("key", "value", "severity", "what"),
    [
        ("image_id", 9, "error", "1 of 4 boxes are on images that the annotations do not list (row 1)"),
        ("bbox", [1, 2, 3], "error", "1 of 4 boxes are not four numbers (row 1)"),
        ("bbox", [1, 2, 3, float("nan")], "error", "1 of 4 boxes are not finite numbers (row 1)"),
        ("bbox", [1, 2, 3, -4], "warning", "1 of 4 boxes have no width or height (row 1)"),
        ("bbox", [90, 2, 30, 4], "warning", "1 of 4 boxes reach outside their image (row 1)"),
        ("score", None, "error", "1 of 4 boxes have a score that is not a finite number (row 1)"),
        ("score", "high", "error", "1 of 4 boxes have a score that is not a finite number (row 1)"),
        ("score", 85, "warning", "1 of 4 boxes have a score outside 0..1 (row 1)"),
    ],
)
def test_one_spoilt_box_gives_one_finding(tmp_path: Path, key: str, value: object, severity: str, what: str) -> None:
    boxes = good_boxes()
    boxes[1][key] = value
    (finding,) = loud(check_detections(save(tmp_path, boxes, "boxes.json"), save(tmp_path, good())))
    assert (finding.severity, finding.what) == (severity, what)
    assert finding.todo


def test_boxes_of_other_categories_are_counted(tmp_path: Path) -> None:
    boxes = good_boxes()
    boxes[0]["category_id"] = 3
    issues = check_detections(save(tmp_path, boxes, "boxes.json"), save(tmp_path, good()))
    assert loud(issues) == []
    assert issues[0].what.startswith("1 of 4 boxes are of other categories")


def test_no_boxes_at_all_deserve_a_look(tmp_path: Path) -> None:
    (finding,) = loud(check_detections(save(tmp_path, [], "boxes.json"), save(tmp_path, good())))
    assert finding.what == "holds no boxes"


def test_a_result_file_that_is_annotations_is_one_error(tmp_path: Path) -> None:
    path = save(tmp_path, good())
    (finding,) = check_detections(path, path)
    assert "got COCO annotations" in finding.what


# --- data/check_data.py


def check_data(*words: str) -> int | str | None:
    tool = runpy.run_path(str(ROOT / "data/check_data.py"))
    try:
        tool["run"](tool["main"], words)
    except SystemExit as end:
        return end.code
    return 0


def test_the_tool_exits_with_0_for_good_data_and_2_for_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, boxes = save(tmp_path, good()), save(tmp_path, good_boxes(), "boxes.json")
    words = ["--annotations", str(annotations), "--images", str(draw(tmp_path, good())), "--detections", str(boxes)]
    assert check_data(*words) == 0
    assert capsys.readouterr().out.endswith("The data can be used.\n")
    spoilt = copy.deepcopy(good())
    spoilt["annotations"][0]["image_id"] = 77
    save(tmp_path, spoilt)
    assert check_data(*words) == 2
    captured = capsys.readouterr()
    assert "error: " in captured.out
    assert captured.err.count("\n") == 1


def test_the_tool_wants_a_config_or_annotations(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_data() == 2
    assert "either --cfg or --annotations" in capsys.readouterr().err


def test_the_tool_checks_what_a_config_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path, good())
    save(tmp_path, good())
    words = [
        f"data.{split}_{kind}"
        for split in ("train", "val")
        for kind in ("annotations=annotations.json", "images=images")
    ]
    config = tmp_path / "mine.yaml"
    config.write_text("seed: 1", encoding="utf-8")
    assert check_data("--cfg", str(config), f"data.root={tmp_path}", *words) == 0
    assert "no detector boxes; test with --gt-boxes" in capsys.readouterr().out


@pytest.mark.skipif(not SHARED.is_dir(), reason="the set of real people is not here")
def test_real_people_are_usable() -> None:
    annotations = SHARED / "annotations/person_keypoints_val.json"
    issues = check_annotations(annotations, SHARED / "val", samples=8)
    issues += check_detections(SHARED / "annotations/person_detections_yolox_nano_val.json", annotations)
    assert not [finding for finding in issues if finding.severity == "error"]
    assert any(finding.what == "533 persons with keypoints" for finding in issues)
