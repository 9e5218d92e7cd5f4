"""Loaded persons and boxes: compared with pycocotools on the same file, and the rules of the protocol."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import coco

from pose.datasets.coco import annotated_persons, detected_persons, find_category
from pose.datasets.coco_json import CategoryRow
from pose.errors import DataError
from pose.skeleton import COCO, make_skeleton

KEYPOINTS = [*([10, 20, 2] * 2), *([30, 40, 1] * 2), *([7, 7, 0] * 13)]


def annotated(data):
    return annotated_persons(data.annotations, data.images, COCO)


def detected(data, threshold=0.0):
    return detected_persons(data.detections, data.annotations, data.images, COCO, threshold)


def person(**changes):
    bbox = [10, 20, 30, 40]
    return {"id": 99, "image_id": 1, "category_id": 1, "bbox": bbox, "area": 500, "keypoints": KEYPOINTS, **changes}


def add_person(data, **changes):
    data.edit(lambda content: content["annotations"].append(person(**changes)))


def expected_by_pycocotools(path):
    """(image id, clipped box, visibilities) by annotation id."""
    index, expected = coco.COCO(str(path)), {}
    for entry in index.loadAnns(index.getAnnIds(catIds=index.getCatIds(["person"]), iscrowd=False)):
        image, (x, y, w, h) = index.imgs[entry["image_id"]], entry["bbox"]
        left, top = max(x, 0), max(y, 0)
        right = min(image["width"] - 1, left + max(w - 1, 0))
        bottom = min(image["height"] - 1, top + max(h - 1, 0))
        if any(v > 0 for v in entry["keypoints"][2::3]) and entry["area"] > 0 and right >= left and bottom >= top:
            box = [left, top, right - left, bottom - top]
            expected[entry["id"]] = (entry["image_id"], box, entry["keypoints"][2::3])
    return expected


def assert_equals_pycocotools(persons, path):
    expected = expected_by_pycocotools(path)
    assert sorted(persons.ids) == sorted(expected)
    for row, person_id in enumerate(persons.ids):
        image_id, box, visibility = expected[person_id]
        assert persons.image_ids[row] == image_id
        np.testing.assert_allclose(persons.bboxes_xywh[row], box)
        np.testing.assert_array_equal(persons.visibility[row], visibility)


def test_persons_equal_pycocotools(tiny_coco):
    persons = annotated(tiny_coco)

    assert persons.ids.tolist() == [11, 12, 21, 22, 31]
    assert_equals_pycocotools(persons, tiny_coco.annotations)


def test_real_persons_equal_pycocotools(shared):
    folder = shared / "data/coco_person_small"
    path = folder / "annotations/person_keypoints_val.json"

    persons = annotated_persons(path, folder / "val", COCO)

    assert len(persons) == 533
    assert_equals_pycocotools(persons, path)
    assert all(persons.record(row).image_path.is_file() for row in range(len(persons)))


@pytest.mark.parametrize(
    "changes",
    [
        {"iscrowd": 1},
        {"keypoints": [0] * 51},
        {"keypoints": [5, 6, 0] * 17},
        {"category_id": 2},
        {"category_id": 2, "keypoints": [1, 2, 2]},
        {"area": 0},
        {"bbox": [160, 20, 30, 40]},
        {"bbox": [10, 120, 30, 40]},
        {"bbox": [-50, 20, -30, 40], "area": 0},
        {"bbox": [10, 10, 1, 1]},
        {"bbox": [10, 10, 1, 0.5]},
        {"bbox": [10, 10, 1 + 1e-9, 1]},
        {"bbox": [159, 119, 30, 40]},
    ],
    ids=str,
)
def test_persons_outside_the_protocol_are_dropped(tiny_coco, changes):
    add_person(tiny_coco, **changes)

    assert 99 not in annotated(tiny_coco).ids


@pytest.mark.parametrize("changes", [{}, {"keypoints": [*([0] * 48), 5, 6, 1]}, {"bbox": [150, 110, 30, 40]}], ids=str)
def test_persons_within_the_protocol_are_kept(tiny_coco, changes):
    add_person(tiny_coco, **changes)

    assert 99 in annotated(tiny_coco).ids


def test_a_person_without_area_and_crowd_flag_is_kept(tiny_coco):
    without_area = person()
    del without_area["area"]
    tiny_coco.edit(lambda content: content["annotations"].append(without_area))

    assert 99 in annotated(tiny_coco).ids


def test_boxes_are_clipped_and_one_pixel_smaller(tiny_coco):
    add_person(tiny_coco, bbox=[-5, 100, 40, 60])

    np.testing.assert_array_equal(annotated(tiny_coco).bboxes_xywh[-1], [0, 100, 39, 19])


def test_visibility_is_kept_and_unlabeled_keypoints_are_zero(tiny_coco):
    add_person(tiny_coco)

    record = annotated(tiny_coco).record(5)

    np.testing.assert_array_equal(record.visibility, [2, 2, 1, 1] + [0] * 13)
    np.testing.assert_array_equal(record.keypoints_image[:4], [[10, 20], [10, 20], [30, 40], [30, 40]])
    assert not record.keypoints_image[4:].any()


def test_a_record_is_one_row_of_the_columns(tiny_coco):
    content = {entry["id"]: entry for entry in json.loads(tiny_coco.annotations.read_text())["annotations"]}
    persons = annotated(tiny_coco)

    for row in range(len(persons)):
        record = persons.record(row)
        expected = np.reshape(content[record.id]["keypoints"], (17, 3))
        assert record.image_id == content[record.id]["image_id"]
        assert record.image_path == tiny_coco.images / {1: "1.png", 2: "2.png", 3: "more/3.png"}[record.image_id]
        assert record.score == 1
        np.testing.assert_array_equal(record.keypoints_image, expected[:, :2])
        np.testing.assert_array_equal(record.visibility, expected[:, 2])
        np.testing.assert_array_equal(record.bbox_xywh, persons.bboxes_xywh[row])


def test_take_selects_rows_of_every_column(tiny_coco):
    persons = annotated(tiny_coco)

    taken = persons.take(np.array([4, 1]))

    assert len(taken) == 2
    for row, source in enumerate([4, 1]):
        record, expected = taken.record(row), persons.record(source)
        assert (record.id, record.image_path, record.image_id) == (expected.id, expected.image_path, expected.image_id)
        np.testing.assert_array_equal(record.bbox_xywh, expected.bbox_xywh)
        np.testing.assert_array_equal(record.keypoints_image, expected.keypoints_image)
        np.testing.assert_array_equal(record.visibility, expected.visibility)


def assert_rejected(call, *parts):
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"keypoints": [*KEYPOINTS[:-3], None, 2, 2]}, "expected a number, got null"),
        ({"keypoints": KEYPOINTS[:-3]}, "48 keypoint numbers, expected 51"),
        ({"image_id": 4}, "image 4"),
        ({"bbox": [10, 20, 30]}, "bbox"),
        ({"bbox": None}, "bbox"),
    ],
)
def test_an_invalid_person_is_named_in_the_error(tiny_coco, changes, part):
    add_person(tiny_coco, **changes)

    assert_rejected(lambda: annotated(tiny_coco), str(tiny_coco.annotations), "99", part)


def test_a_file_without_training_persons_is_rejected(tiny_coco):
    tiny_coco.edit(lambda content: content.update(annotations=[person(iscrowd=1)]))

    assert_rejected(lambda: annotated(tiny_coco), "no person with a labeled keypoint among 1 annotations")


def test_an_image_info_file_works_with_detector_boxes_only(tiny_coco):
    tiny_coco.edit(lambda content: content.pop("annotations"))

    assert_rejected(lambda: annotated(tiny_coco), "no person")
    assert len(detected(tiny_coco)) == 4


def test_an_image_info_file_needs_no_categories(tiny_coco):
    tiny_coco.edit(lambda content: [content.pop("annotations"), content.pop("categories")])

    assert len(detected(tiny_coco)) == 4


def test_detector_boxes_are_not_changed(tiny_coco):
    persons = detected(tiny_coco)

    np.testing.assert_array_equal(persons.bboxes_xywh[:2], [[-4.5, 10, 70, 95], [88, 28.5, 44, 66]])
    np.testing.assert_array_equal(persons.scores, [0.9, 0.6, 0.95, 0.1])
    assert persons.ids.tolist() == [0, 1, 2, 3]
    assert persons.image_ids.tolist() == [1, 1, 2, 3]
    assert persons.record(3).image_path == tiny_coco.images / "more/3.png"
    assert persons.keypoints_image.shape == (4, 17, 2)
    assert not persons.visibility.any()


def edit_boxes(data, change):
    boxes = json.loads(data.detections.read_text())
    change(boxes)
    data.detections.write_text(json.dumps(boxes))


@pytest.mark.parametrize(("threshold", "count"), [(0, 4), (0.1, 4), (0.6, 3), (0.61, 2), (1, 0)])
def test_boxes_below_the_score_threshold_are_dropped(tiny_coco, threshold, count):
    persons = detected(tiny_coco, threshold)

    assert len(persons) == count
    assert persons.bboxes_xywh.shape == (count, 4)
    assert persons.ids.tolist() == [row for row in range(4) if [0.9, 0.6, 0.95, 0.1][row] >= threshold]


def test_an_empty_detection_file_gives_no_persons(tiny_coco):
    tiny_coco.detections.write_text("[]")

    assert len(detected(tiny_coco)) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"category_id": 3},
        {"category_id": 3, "image_id": 77},
        {"bbox": [1, 2, 0, 9]},
        {"bbox": [1, 2, 9, -1]},
        {"bbox": [1, 2, 1e-9, 1e-300]},
    ],
    ids=str,
)
def test_boxes_of_other_categories_and_empty_boxes_are_dropped(tiny_coco, change):
    edit_boxes(tiny_coco, lambda boxes: boxes[1].update(change))

    persons = detected(tiny_coco)

    assert persons.ids.tolist() == [0, 2, 3], "a box keeps its row number in the file"


def test_boxes_on_unknown_images_are_rejected(tiny_coco):
    edit_boxes(tiny_coco, lambda boxes: boxes[1].update(image_id=77))

    assert_rejected(
        lambda: detected(tiny_coco), str(tiny_coco.detections), "1 image ids (first 77)", str(tiny_coco.annotations)
    )


@pytest.mark.parametrize("bbox", [[1, 2, None, 9], [1, 2, 9], [1, 2, 9, 3e38]])
def test_invalid_detector_boxes_are_rejected(tiny_coco, bbox):
    edit_boxes(tiny_coco, lambda boxes: boxes[1].update(bbox=bbox))

    assert_rejected(lambda: detected(tiny_coco), str(tiny_coco.detections), "row 1")


def category(category_id, name, keypoints=None):
    return CategoryRow(category_id, name, keypoints and tuple(keypoints))


@pytest.mark.parametrize(
    ("categories", "expected"),
    [
        ([category(1, "person", COCO.names)], 1),
        ([category(3, "dog", ["nose", "tail"]), category(8, "human", COCO.names)], 8),
        ([category(2, "car"), category(5, "person")], 5),
        ([category(2, "car")], 1),
        ([], 1),
    ],
)
def test_the_category_is_found_by_its_keypoints_then_by_its_name(categories, expected):
    assert find_category(categories, Path("x.json"), COCO) == expected


def test_a_skeleton_that_differs_from_the_file_is_rejected():
    horse = make_skeleton(["nose", "tail"])
    categories = [category(1, "person", ["nose", "left_eye"])]

    assert_rejected(
        lambda: find_category(categories, Path("x.json"), horse), "x.json", "left_eye", "tail", "'skeleton'"
    )


def test_the_order_of_the_keypoints_is_part_of_the_skeleton():
    categories = [category(1, "person", COCO.names[::-1])]

    assert_rejected(lambda: find_category(categories, Path("x.json"), COCO), "skeleton")


def test_a_custom_skeleton_reads_its_own_category(tiny_coco):
    def change(content):
        content["categories"].append({"id": 2, "name": "horse", "keypoints": ["nose", "tail"]})
        content["annotations"].append(person(category_id=2, keypoints=[1, 2, 2, 3, 4, 1]))

    tiny_coco.edit(change)

    persons = annotated_persons(tiny_coco.annotations, tiny_coco.images, make_skeleton(["nose", "tail"]))

    assert persons.ids.tolist() == [99]
    np.testing.assert_array_equal(persons.keypoints_image, [[[1, 2], [3, 4]]])


def test_a_missing_file_is_named(tiny_coco):
    assert_rejected(
        lambda: annotated_persons(tiny_coco.images / "none.json", tiny_coco.images, COCO), "none.json", "no such file"
    )
