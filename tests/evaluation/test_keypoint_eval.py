"""The vectorized OKS equals pycocotools' to the last bit, and so do the metrics."""

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose.evaluation.keypoint_eval import KeypointEval
from pose.skeleton import COCO as SKELETON

IMAGES = (1, 2, 3, 4)


def annotations(rng, integers=False):
    """Up to six persons in each of the first three images: 0 to 17 labeled keypoints, many sizes, some crowds."""
    people = []
    for number, image_id in enumerate([1] * 6 + [2] * 3 + [3], start=1):
        bbox = [*rng.uniform(0, 200, 2), *rng.uniform(10, 200, 2)]
        xyv = np.column_stack([rng.uniform(bbox[:2], np.add(bbox[:2], bbox[2:]), (17, 2)), rng.integers(1, 3, 17)])
        labeled = (0, 1, 2, 7, 8, 9, 16, 17)[number % 8]
        xyv[rng.permutation(17)[labeled:]] = 0
        keypoints = xyv.round(0 if integers else 2).astype(int if integers else float)
        people.append(
            {
                "id": number, "image_id": image_id, "category_id": 1, "bbox": bbox, "area": bbox[2] * bbox[3] * 0.6,
                "iscrowd": int(number % 5 == 0), "num_keypoints": labeled, "keypoints": keypoints.ravel().tolist(),
            }
        )  # fmt: skip
    content = COCO()
    content.dataset = {
        "images": [{"id": image_id} for image_id in IMAGES],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": people,
    }
    content.createIndex()
    return content


def results(rng, truth, count, integers=False):
    """Results near the persons and elsewhere, some with equal scores, in images 1, 2 and 4."""
    rows = []
    for number in range(count):
        person = truth.dataset["annotations"][number % 10]
        xyv = np.array(person["keypoints"], dtype=float).reshape(17, 3) + rng.normal(0, 6, (17, 3))
        keypoints = xyv.round(0 if integers else 3).astype(int if integers else float)
        image_id = (1, 1, 1, 2, 4)[number % 5]
        score = round(float(rng.uniform()), 1)
        rows.append({"image_id": image_id, "category_id": 1, "keypoints": keypoints.ravel().tolist(), "score": score})
    return truth.loadRes(rows)


def evaluate_both(seed, count, sigmas=SKELETON.sigmas, **options):
    rng = np.random.default_rng(seed)
    truth = annotations(rng, **options)
    predicted = results(rng, truth, count, **options)
    ours, reference = KeypointEval(truth, predicted, sigmas), COCOeval(truth, predicted, "keypoints")
    reference.params.kpt_oks_sigmas = np.array(sigmas)
    ours.evaluate()
    reference.evaluate()
    return ours, reference


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [1, 12, 90])  # 90: more results than the 20 per image that COCO evaluates
def test_oks_equals_pycocotools_to_the_last_bit(seed, count):
    ours, reference = evaluate_both(seed, count)

    assert ours.ious.keys() == reference.ious.keys()
    for key, similarities in reference.ious.items():
        np.testing.assert_array_equal(ours.ious[key], similarities)
    assert any(np.any(np.array(similarities) > 0.5) for similarities in reference.ious.values()) or count == 1


@pytest.mark.parametrize("seed", range(3))
def test_oks_equals_pycocotools_for_integer_coordinates(seed):
    ours, reference = evaluate_both(seed, 40, integers=True)

    for key, similarities in reference.ious.items():
        np.testing.assert_array_equal(ours.ious[key], similarities)


def test_oks_uses_the_given_sigmas():
    strict, reference = evaluate_both(0, 40, sigmas=[0.01] * 17)
    loose, _ = evaluate_both(0, 40, sigmas=[0.3] * 17)

    np.testing.assert_array_equal(strict.ious[1, 1], reference.ious[1, 1])
    assert (loose.ious[1, 1] > strict.ious[1, 1]).all()


@pytest.mark.parametrize("seed", range(3))
def test_matches_and_metrics_equal_pycocotools(seed):
    evaluators = evaluate_both(seed, 90)
    for evaluator in evaluators:
        evaluator.accumulate()
        evaluator.summarize()

    ours, reference = evaluators
    np.testing.assert_array_equal(ours.stats, reference.stats)
    assert reference.stats[0] > 0
    for image, expected in zip(ours.evalImgs, reference.evalImgs, strict=True):
        assert (image is None) == (expected is None)
        if image is not None:
            np.testing.assert_array_equal(image["dtMatches"], expected["dtMatches"])
            np.testing.assert_array_equal(image["gtMatches"], expected["gtMatches"])
