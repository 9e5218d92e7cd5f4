"""AP by threshold and its bootstrap, compared with pycocotools."""

import numpy as np
import pytest

from pose.evaluation.coco_ap import evaluate
from pose.evaluation.precision import average_precision, bootstrap_ap, interval, rank_matches
from pose.skeleton import COCO


def random_scene(scene, seed, images=12):
    """Add persons, crowds and persons without keypoints, and results of all qualities with partly equal scores."""
    rng = np.random.default_rng(seed)
    scene.images.update(range(1, images + 1))
    for image_id in range(1, images + 1):
        for index in range(rng.integers(0, 4)):
            kind = rng.choice([{}, {}, {}, {"iscrowd": 1}, {"labeled": ()}])
            keypoints = scene.person(image_id, left=1500.0 * index, **kind)
            for _ in range(rng.integers(0, 3)):
                noise = rng.normal(size=(17, 2)) * rng.uniform(0, 12)
                scene.result(keypoints + noise, float(rng.integers(1, 8)) / 8, image_id)
    scene.result(np.zeros((17, 2)) - 500, 0.6, image_id=1)


def rank(scene):
    return rank_matches(scene.ground_truth(), scene.results, COCO.sigmas, 1)


@pytest.mark.parametrize("seed", range(4))
def test_ap_equals_pycocotools(scene, seed):
    random_scene(scene, seed)

    precisions = average_precision(rank(scene))

    metrics = evaluate(scene.file(), scene.results, COCO.sigmas)
    assert 0.05 < metrics.AP < 0.95
    np.testing.assert_allclose(
        [precisions.mean(), precisions[0], precisions[5]], [metrics.AP, metrics.AP50, metrics.AP75], atol=1e-12
    )


def test_image_weights_equal_copies_of_the_images(scene):
    random_scene(scene, 5)
    for index, result in enumerate(scene.results):
        result["score"] += 1e-4 * index  # no ties between images, which would be in the order of the images
    weights = np.array([0, 1, 2, 3, 0, 1, 1, 2, 0, 0, 1, 1])
    weighted = average_precision(rank(scene), weights)
    annotations, results = scene.annotations[:], scene.results[:]
    scene.annotations, scene.results, scene.images = [], [], set()
    for image_id, weight in enumerate(weights, start=1):
        for copy in range(weight):
            number = 100 * copy + image_id
            scene.images.add(number)
            scene.annotations += [{**a, "image_id": number} for a in annotations if a["image_id"] == image_id]
            scene.results += [{**r, "image_id": number} for r in results if r["image_id"] == image_id]

    np.testing.assert_allclose(weighted, average_precision(rank(scene)), atol=1e-9)


def test_without_results_ap_is_zero_and_without_persons_nan(scene):
    scene.person()
    assert (average_precision(rank(scene)) == 0).all()

    scene.annotations[0]["iscrowd"] = 1
    assert np.isnan(average_precision(rank(scene))).all()


def test_the_bootstrap_draws_the_same_images_for_all_results(scene):
    random_scene(scene, 6)
    ranked = rank(scene)

    first, again = bootstrap_ap([ranked, ranked], 40), bootstrap_ap([ranked], 40)

    np.testing.assert_array_equal(first[:, 0], first[:, 1])
    np.testing.assert_array_equal(first[:, 0], again[:, 0])
    assert first[:, 0].std() > 0.01
    assert (bootstrap_ap([ranked], 40, seed=1)[:, 0] != first[:, 0]).any()


def test_the_bootstrap_of_perfect_results_is_always_1(scene):
    for image_id in (1, 2, 3):
        scene.result(scene.person(image_id), image_id=image_id)

    assert (bootstrap_ap([rank(scene)], 20) == 1).all()


def test_the_interval_holds_95_percent_and_ignores_nan():
    low, high = interval(np.append(np.linspace(0, 1, 1001), np.nan))

    assert (low, high) == pytest.approx((0.025, 0.975))
