"""The faster OKS of an image gives pycocotools' numbers to the last bit, and so the same figures."""

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose.evaluation.keypoint_eval import KeypointEval
from pose.skeleton import COCO as SKELETON

IMAGES = (1, 2, 3, 4)


def annotations(rng, whole_numbers=False):
    """Up to six persons in the first three images: of 0 to 17 labelled keypoints, of many sizes, some crowds."""
    people = []
    for number, image_id in enumerate([1] * 6 + [2] * 3 + [3], start=1):
        bbox = [*rng.uniform(0, 200, 2), *rng.uniform(10, 200, 2)]
        xyv = np.column_stack([rng.uniform(bbox[:2], np.add(bbox[:2], bbox[2:]), (17, 2)), rng.integers(1, 3, 17)])
        labelled = (0, 1, 2, 7, 8, 9, 16, 17)[number % 8]
        xyv[rng.permutation(17)[labelled:]] = 0
        keypoints = xyv.round(0 if whole_numbers else 2).astype(int if whole_numbers else float)
        people.append(
            {
                "id": number, "image_id": image_id, "category_id": 1, "bbox": bbox, "area": bbox[2] * bbox[3] * 0.6,
                "iscrowd": int(number % 5 == 0), "num_keypoints": labelled, "keypoints": keypoints.ravel().tolist(),
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


def results(rng, truth, count, whole_numbers=False):
    """Near the persons and elsewhere, some with equal scores, in the images 1, 2 and 4."""
    rows = []
    for number in range(count):
        like = truth.dataset["annotations"][number % 10]
        xyv = np.array(like["keypoints"], dtype=float).reshape(17, 3) + rng.normal(0, 6, (17, 3))
        keypoints = xyv.round(0 if whole_numbers else 3).astype(int if whole_numbers else float)
        image_id = (1, 1, 1, 2, 4)[number % 5]
        score = round(float(rng.uniform()), 1)
        rows.append({"image_id": image_id, "category_id": 1, "keypoints": keypoints.ravel().tolist(), "score": score})
    return truth.loadRes(rows)


def both(seed, count, sigmas=SKELETON.sigmas, **kind):
    rng = np.random.default_rng(seed)
    truth = annotations(rng, **kind)
    found = results(rng, truth, count, **kind)
    ours, plain = KeypointEval(truth, found, sigmas), COCOeval(truth, found, "keypoints")
    plain.params.kpt_oks_sigmas = np.array(sigmas)
    ours.evaluate()
    plain.evaluate()
    return ours, plain


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [1, 12, 90])  # 90 are more than the 20 results of an image that COCO looks at
def test_every_similarity_is_pycocotools_own_to_the_last_bit(seed, count):
    ours, plain = both(seed, count)

    assert ours.ious.keys() == plain.ious.keys()
    for place, similarities in plain.ious.items():
        np.testing.assert_array_equal(ours.ious[place], similarities)
    assert any(np.any(np.array(similarities) > 0.5) for similarities in plain.ious.values()) or count == 1


@pytest.mark.parametrize("seed", range(3))
def test_files_of_whole_numbers_give_the_same_too(seed):
    ours, plain = both(seed, 40, whole_numbers=True)

    for place, similarities in plain.ious.items():
        np.testing.assert_array_equal(ours.ious[place], similarities)


def test_the_given_sigmas_count():
    strict, plain = both(0, 40, sigmas=[0.01] * 17)
    loose, _ = both(0, 40, sigmas=[0.3] * 17)

    np.testing.assert_array_equal(strict.ious[1, 1], plain.ious[1, 1])
    assert (loose.ious[1, 1] > strict.ious[1, 1]).all()


@pytest.mark.parametrize("seed", range(3))
def test_matches_and_figures_are_pycocotools_own(seed):
    evaluators = both(seed, 90)
    for evaluator in evaluators:
        evaluator.accumulate()
        evaluator.summarize()

    ours, plain = evaluators
    np.testing.assert_array_equal(ours.stats, plain.stats)
    assert plain.stats[0] > 0
    for image, expected in zip(ours.evalImgs, plain.evalImgs, strict=True):
        assert (image is None) == (expected is None)
        if image is not None:
            np.testing.assert_array_equal(image["dtMatches"], expected["dtMatches"])
            np.testing.assert_array_equal(image["gtMatches"], expected["gtMatches"])
