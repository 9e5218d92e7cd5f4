"""AP on small annotation sets whose metrics follow from COCO's definition."""

import json
import logging
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.errors import DataError
from pose.evaluation.coco_ap import METRIC_NAMES, Metrics, evaluate, format_table
from pose.skeleton import COCO

TINY, MEDIUM, LARGE = 20.0**2, 50.0**2, 120.0**2


def person(number: int, image_id: int, area: float, **other: Any) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    xyv = np.column_stack([rng.uniform(0, 300, (17, 2)).round(2), rng.integers(1, 3, 17)])
    record = {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, "num_keypoints": 17, "area": area}
    return {**record, "bbox": [0.0, 0.0, 300.0, 300.0], "keypoints": xyv.ravel().tolist(), **other}


def annotation_set() -> dict[str, Any]:
    """Four evaluated persons (two medium, two large), a crowd, a person without keypoints, an image without people."""
    return {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 300, "height": 300} for n in (10, 20, 30, 40)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.names)}],
        "annotations": [
            person(0, 10, MEDIUM),  # id 0 is evaluated too
            person(1, 10, LARGE),
            person(2, 20, MEDIUM),
            person(3, 30, LARGE),
            person(4, 30, LARGE, iscrowd=1),
            person(5, 20, LARGE, keypoints=[0] * 51, num_keypoints=0),
        ],
    }


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    return write(tmp_path, annotation_set())


def ground_truth_results(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": list(a["keypoints"]), "score": 0.9}
        for a in content["annotations"]
        if not a["iscrowd"] and a["num_keypoints"]
    ]


@pytest.fixture
def perfect() -> list[dict[str, Any]]:
    return ground_truth_results(annotation_set())


def metric_values(metrics: Metrics) -> list[float]:
    return [getattr(metrics, name) for name in METRIC_NAMES]


def shifted(result: dict[str, Any], keypoint: int, dx: float) -> dict[str, Any]:
    moved = deepcopy(result)
    moved["keypoints"][3 * keypoint] += dx
    return moved


def test_ground_truth_as_results_has_ap_1(annotations, perfect):
    metrics = evaluate(annotations, perfect, COCO.sigmas)

    assert metric_values(metrics) == pytest.approx([1.0] * 10)
    assert metrics.keypoint_similarity == dict.fromkeys(COCO.names, 1.0)


def test_ap_and_ar_with_one_of_four_persons_detected(annotations, perfect):
    metrics = evaluate(annotations, perfect[1:2], COCO.sigmas)

    assert pytest.approx(26 / 101) == metrics.AP  # precision 1 at the recalls 0, .01, ... .25
    assert pytest.approx(1 / 4) == metrics.AR
    assert pytest.approx(51 / 101) == metrics.APL
    assert metrics.APM == 0


def test_a_false_positive_with_a_higher_score_lowers_ap_but_not_ar(annotations, perfect):
    false_positive = {**perfect[0], "image_id": 40, "score": 0.99}

    metrics = evaluate(annotations, [*perfect, false_positive], COCO.sigmas)

    assert pytest.approx(4 / 5) == metrics.AP
    assert pytest.approx(1.0) == metrics.AR


def test_a_duplicate_of_a_detected_person_is_a_false_positive(annotations, perfect):
    with_duplicate = [*perfect, {**perfect[0], "score": 0.95}]

    assert evaluate(annotations, with_duplicate, COCO.sigmas).AP < 0.9


def test_ap_counts_the_thresholds_below_the_oks(annotations, perfect):
    # Every keypoint is off by d with exp(-d^2 / (2 s^2 (2 sigma)^2)) = 0.72: matched at the thresholds .50 to .70, five
    # of ten.
    areas = [MEDIUM, LARGE, MEDIUM, LARGE]
    factor = np.sqrt(-2 * np.log(0.72)) * 2 * np.array(COCO.sigmas)
    moved = deepcopy(perfect)
    for row, area in zip(moved, areas, strict=True):
        row["keypoints"] = (
            (np.array(row["keypoints"]).reshape(17, 3) + np.outer(factor, [area**0.5, 0, 0])).ravel().tolist()
        )

    metrics = evaluate(annotations, moved, COCO.sigmas)

    assert pytest.approx(0.5) == metrics.AP
    assert pytest.approx((1.0, 0.0)) == (metrics.AP50, metrics.AP75)
    assert list(metrics.keypoint_similarity.values()) == pytest.approx([0.72] * 17)


def test_keypoint_similarity_is_over_the_labeled_keypoints_of_matched_persons(tmp_path, perfect):
    content = annotation_set()
    content["annotations"][1]["keypoints"][3 * 9 + 2] = 0  # the left wrist of person 1 is not labeled
    content["annotations"][0]["area"] = TINY  # counts too, although COCO has no metric for tiny persons
    for annotation in content["annotations"]:
        annotation["keypoints"][3 * 3 + 2] = 0  # no left ear is labeled
    crowd = {**perfect[3], "keypoints": list(content["annotations"][4]["keypoints"])}
    results = [
        shifted(perfect[0], 9, dx=4.0),
        shifted(perfect[1], 9, dx=100.0),
        shifted(perfect[2], 10, dx=3.0),
        shifted(crowd, 9, dx=50.0),  # matches a crowd: ignored
    ]

    metrics = evaluate(write(tmp_path, content), results, COCO.sigmas)

    wrist = np.exp(-(4.0**2) / (2 * TINY * (2 * COCO.sigmas[9]) ** 2))
    assert metrics.keypoint_similarity["left_wrist"] == pytest.approx((wrist + 1) / 2)
    assert metrics.keypoint_similarity["right_wrist"] < 1
    assert metrics.keypoint_similarity["nose"] == pytest.approx(1)
    assert metrics.keypoint_similarity["left_ear"] is None


def test_evaluate_uses_the_given_sigmas_and_category(tmp_path):
    names = ["tip", "middle", "root"]
    annotation = {"image_id": 1, "category_id": 5, "area": LARGE, "bbox": [0, 0, 99, 99]}  # no id, crowd or count
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 99, "height": 99}],
        "categories": [{"id": 5, "name": "finger", "keypoints": names}],
        "annotations": [{**annotation, "keypoints": [10, 10, 2, 20, 20, 2, 30, 30, 2]}],
    }
    path = write(tmp_path, content)
    result = {"image_id": 1, "category_id": 5, "keypoints": [16, 10, 1, 26, 20, 1, 36, 30, 1], "score": 1.0}

    loose = evaluate(path, [result], [0.3] * 3, category_id=5)
    strict = evaluate(path, [result], [0.01] * 3, category_id=5)

    assert pytest.approx(1.0) == loose.AP
    assert strict.AP == 0
    assert list(loose.keypoint_similarity) == names
    assert loose.keypoint_similarity["tip"] == pytest.approx(np.exp(-36 / (2 * LARGE * 0.6**2)))


def test_images_without_results_count_unless_image_ids_selects_a_subset(annotations, perfect):
    first_image = [row for row in perfect if row["image_id"] == 10]

    assert pytest.approx(0.5) == evaluate(annotations, first_image, COCO.sigmas).AR
    assert pytest.approx(1.0) == evaluate(annotations, first_image, COCO.sigmas, image_ids=[10, 40]).AR
    assert pytest.approx(1.0) == evaluate(annotations, perfect, COCO.sigmas, image_ids=[10]).AP


def test_no_results_give_0_and_a_warning(annotations, caplog):
    with caplog.at_level(logging.WARNING):
        metrics = evaluate(annotations, [], COCO.sigmas)

    assert metric_values(metrics) == [0.0] * 10
    assert set(metrics.keypoint_similarity.values()) == {None}
    assert "no results" in caplog.text


def test_results_of_another_category_are_ignored(annotations, perfect, caplog):
    assert evaluate(annotations, [{**row, "category_id": 2} for row in perfect], COCO.sigmas).AP == 0
    assert "category 1" in caplog.text


def test_evaluate_does_not_modify_the_results_and_prints_nothing(annotations, perfect, capsys):
    before = deepcopy(perfect)

    evaluate(annotations, perfect, COCO.sigmas)

    assert perfect == before
    assert capsys.readouterr().out == ""


def test_an_image_id_not_in_the_annotations_is_an_error(annotations, perfect):
    with pytest.raises(DataError, match=r"has no image 11 \(1 such ids\)"):
        evaluate(annotations, [{**perfect[0], "image_id": 11}], COCO.sigmas)
    with pytest.raises(DataError, match="has no image 99"):
        evaluate(annotations, perfect, COCO.sigmas, image_ids=[10, 99])


def test_a_result_of_another_skeleton_is_an_error(annotations, perfect):
    with pytest.raises(DataError, match="17 keypoints x 3 numbers, got 6"):
        evaluate(annotations, [{**perfect[0], "keypoints": [1.0] * 6}], COCO.sigmas)


def remove_area(content: dict[str, Any]) -> None:
    del content["annotations"][2]["area"]


def shorten_keypoints(content: dict[str, Any]) -> None:
    content["annotations"][2]["keypoints"] = [1, 2, 2]


def remove_annotations(content: dict[str, Any]) -> None:
    del content["annotations"]


def shorten_category(content: dict[str, Any]) -> None:
    del content["categories"][0]["keypoints"][0]


def rename_category(content: dict[str, Any]) -> None:
    content["categories"][0]["id"] = 3


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (remove_area, "annotation 2 lacks 'area'"),
        (shorten_keypoints, "annotation 2 has 3 keypoint numbers, expected 51"),
        (remove_annotations, "has no annotations"),
        (rename_category, "expected category 1"),
        (shorten_category, "category 1 lists 16 keypoints, expected 17"),
    ],
)
def test_incomplete_annotations_are_an_error(tmp_path, perfect, edit, message):
    content = annotation_set()
    edit(content)

    with pytest.raises(DataError, match=message):
        evaluate(write(tmp_path, content), perfect, COCO.sigmas)


def test_metrics_as_dict_is_json_serializable(annotations, perfect):
    content = json.loads(json.dumps(evaluate(annotations, perfect, COCO.sigmas).as_dict()))

    assert content["AP"] == pytest.approx(1.0)
    assert set(content) == {*METRIC_NAMES, "keypoint_similarity"}


def test_the_table_has_coco_names_and_a_dash_for_missing_values(annotations, perfect):
    metrics = replace(evaluate(annotations, perfect, COCO.sigmas), AP=0.4567, APL=-1.0)
    metrics.keypoint_similarity["nose"] = None

    header, values, *rest = format_table(metrics).splitlines()

    assert header.split() == list(METRIC_NAMES)
    assert values.split() == ["45.7", "100.0", "100.0", "100.0", "-", *["100.0"] * 5]
    assert [line.split() for line in rest[2:4]] == [["nose", "-"], ["left_eye", "100.0"]]
