"""All figures of an analysis, and the comparison of two results."""

import json

import numpy as np
import pytest

from pose.errors import DataError
from pose.evaluation.analysis import analyse, compare
from pose.skeleton import COCO


@pytest.fixture
def results(scene, jittered):
    """Three images: a perfect person, one with an inverted arm, and one with jitter beside a background error."""
    scene.result(scene.person(image_id=1), 0.9, image_id=1)
    keypoints = scene.person(image_id=2, labeled=range(12))
    keypoints[[7, 9]] = keypoints[[8, 10]]
    scene.result(keypoints, 0.8, image_id=2)
    third = scene.person(image_id=3, area=40.0**2)
    scene.result(third + 1, 0.7, image_id=3)
    scene.result(third - 3000, 0.2, image_id=3)
    return scene.results


def test_the_figures_of_planted_errors(scene, results):
    figures = analyse(scene.file(), results, COCO, rounds=20).figures

    assert (figures["images"], figures["persons"], figures["results"]) == (3, 3, 4)
    rows = {row["error"]: row for row in figures["errors"]}
    assert (rows["inversion"]["count"], rows["inversion"]["of"]) == (2, 46)
    assert rows["false positive"]["count"] == 1
    low, high = figures["AP_interval"]
    assert low <= figures["metrics"]["AP"] <= high
    assert {(row["keypoint"], row["near"], row["person"]) for row in figures["confusions"]} == {
        ("left_elbow", "right_elbow", "same"), ("left_wrist", "right_wrist", "same"),
    }  # fmt: skip
    by_name = {row["keypoint"]: row for row in figures["by_keypoint"]}
    assert by_name["left_elbow"]["labeled"] == 3
    assert by_name["left_knee"]["labeled"] == 2
    assert by_name["left_wrist"]["classes"]["inversion"] == pytest.approx(1 / 3, abs=1e-4)
    assert by_name["left_wrist"]["AP"] < by_name["left_hip"]["AP"] == 1
    groups = {kind: {row["group"]: row for row in rows} for kind, rows in figures["groups"].items() if kind != "all"}
    assert groups["size"]["32 to 96 px"]["persons"] == 1
    assert groups["labeled keypoints"]["11 to 15"]["classes"]["inversion"] == pytest.approx(2 / 12, abs=1e-4)
    assert groups["overlapping persons"]["none"]["persons"] == 3
    assert figures["calibration"]["persons"]["counts"] == [1, 1, 1, 1]
    assert sum(figures["calibration"]["keypoints"]["counts"]) == 46
    json.dumps(figures, allow_nan=False)


def test_results_without_any_person_near_and_no_results_give_figures(scene):
    scene.person()
    for results in ([], [{"image_id": 1, "category_id": 1, "keypoints": [-999.0] * 51, "score": 3}]):
        figures = analyse(scene.file(), results, COCO, rounds=5).figures

        assert figures["metrics"]["AP"] == 0
        json.dumps(figures, allow_nan=False)


def test_results_of_other_categories_are_ignored(scene, results):
    others = [{**row, "category_id": 2, "score": 1.0} for row in results]

    assert analyse(scene.file(), [*others, *results], COCO, rounds=5).figures["results"] == 4


def test_annotations_without_a_labeled_person_are_refused(scene):
    scene.person(labeled=())

    with pytest.raises(DataError, match="expected persons with labeled keypoints"):
        analyse(scene.file(), [], COCO)


def test_results_of_unknown_images_are_refused(scene, results):
    unknown = [*results, {**results[0], "image_id": 77}]

    for call in (lambda: analyse(scene.file(), unknown, COCO), lambda: compare(scene.file(), results, unknown, COCO)):
        with pytest.raises(DataError, match="has no image 77"):
            call()


def test_compare_gives_the_difference_and_its_interval(scene, jittered):
    better, worse = [], []
    for image_id in range(1, 9):
        truth = scene.person(image_id=image_id)
        for results, similarity in ((better, 0.97), (worse, 0.72)):
            scene.results = results
            scene.result(jittered(truth, similarity), image_id=image_id)

    figures = compare(scene.file(), better, worse, COCO, rounds=50)

    assert (figures["AP"], figures["other_AP"]) == (1, 0.5)  # thresholds .5 to .7 of ten
    assert figures["difference"] == 0.5
    np.testing.assert_allclose(figures["difference_interval"], [0.5, 0.5])
    assert figures["share_better"] == 1
    assert compare(scene.file(), better, better, COCO, rounds=50)["difference_interval"] == (0, 0)
