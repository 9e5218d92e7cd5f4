"""Growth: larger data are copies on new images, each step is measured, and the work grows in proportion."""

import json

import numpy as np
import pytest

import pose.evaluation.coco_results as coco_results
from pose.datasets.coco import annotated_persons, detected_persons
from pose.datasets.coco_json import read_results
from pose.skeleton import COCO
from pose.tools.benchmarks import growth
from pose.tools.benchmarks._memory import Cost
from pose.tools.benchmarks._synthetic import synthetic_people
from pose.tools.benchmarks._timing import Budget

IMAGES = 20


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Data of 20 images once and three times."""
    root = tmp_path_factory.mktemp("growth")
    content, predictions = synthetic_people(IMAGES, np.random.default_rng(0))
    for factor in (1, 3):
        growth.write_data(root / str(factor), content, predictions, IMAGES, factor)
    return root / "1", root / "3"


def test_larger_data_are_the_same_persons_on_new_images(folders):
    one, three = (annotated_persons(folder / growth.ANNOTATIONS, folder, COCO) for folder in folders)

    assert len(set(three.ids)) == len(three) == 3 * len(one)
    np.testing.assert_array_equal(three.keypoints_image, np.concatenate([one.keypoints_image] * 3))
    np.testing.assert_array_equal(three.image_ids, np.concatenate([one.image_ids + n * IMAGES for n in range(3)]))


def test_boxes_and_results_are_on_the_images_of_the_annotations(folders):
    boxes = [
        detected_persons(folder / growth.BOXES, folder / growth.ANNOTATIONS, folder, COCO) for folder in folders
    ]  # fmt: skip
    results = [read_results(folder / growth.RESULTS, COCO.num_keypoints) for folder in folders]

    assert len(boxes[1]) == 3 * len(boxes[0]) > 0
    assert len(results[1]) == 3 * len(results[0]) > 0
    assert {row["image_id"] for row in results[1]} <= set(range(1, 3 * IMAGES + 1))


def test_pairs_compared_by_oks_nms_grow_in_proportion(folders, monkeypatch):
    pairs = []

    def counting(keypoints, areas, scores, threshold, sigmas):
        pairs.append(len(scores) ** 2)
        return np.arange(len(scores))

    monkeypatch.setattr(coco_results, "oks_nms", counting)
    counts = []
    for folder in folders:
        pairs.clear()
        growth._suppress(folder)
        counts.append(sum(pairs))

    assert counts[1] == 3 * counts[0] > 0


def test_copies_do_not_change_ap(folders):
    one, three = (
        growth.evaluate(folder / growth.ANNOTATIONS, read_results(folder / growth.RESULTS, 17), COCO.sigmas).AP
        for folder in folders
    )

    assert 0 < one == pytest.approx(three, abs=1e-2)


def test_a_row_compares_with_the_smallest_size_times_the_factor(monkeypatch):
    def fake_cost(call):
        factor = int(call.args[0].name)
        return Cost(0.5 * factor**2, 10**6 * factor)

    monkeypatch.setattr(growth, "cost", fake_cost)
    rows = list(growth.measure(Budget(rounds=1), np.random.default_rng(0), images=2, largest=10))

    assert json.dumps([row.case for row in rows[:4]]) == json.dumps(
        [f"reading annotations, {n} x val2017, {q}" for n in (1, 10) for q in ("time", "peak memory")]
    )
    assert [row.ratio.value for row in rows[:4]] == pytest.approx([1, 1, 10, 1])
    assert [row.target for row in rows[:4]] == [None, None, 1.2, 1.2]
    assert {row.case.partition(",")[0] for row in rows} == set(growth.PARTS)
