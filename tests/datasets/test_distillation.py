"""Mixed targets equal the weighted sum of a loss on the labels and one on the teacher, in any view of the person."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pose.config.pose import AugmentConfig, InputConfig
from pose.datasets.distillation import TeacherHeatmaps, mix_targets, warp_heatmaps
from pose.engine.losses import cross_entropy, mse
from pose.geometry import box_to_view, transform_points, view_to_matrix
from pose.heatmap import decode, encode
from pose.skeleton import COCO

SIGMA = 2.0
KEYPOINTS, HEIGHT, WIDTH = 3, 16, 12
HEATMAP_WH = (48, 64)


def targets(seed):
    """Label targets of one sample with keypoint 2 unlabeled, and teacher maps near them, all confident."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(12, 36, (KEYPOINTS, 2))
    labels, weights = encode(centers, [1, 2, 0], (WIDTH, HEIGHT), 4, SIGMA)
    teacher, _ = encode(centers + rng.uniform(-4, 4, (KEYPOINTS, 2)), [1] * KEYPOINTS, (WIDTH, HEIGHT), 4, SIGMA)
    return labels, weights, 0.8 * teacher


def scaled(maps):
    """Maps scaled to the sum of a Gaussian with peak 1; maps without a value stay zero."""
    return (maps / np.maximum(maps.sum((1, 2), keepdims=True), 1e-6) * (2 * math.pi * SIGMA**2)).astype(np.float32)


@pytest.mark.parametrize("loss", [mse, cross_entropy])
def test_loss_on_mixed_targets_has_the_gradient_of_the_weighted_sum_of_both_losses(loss):
    labels, weights, teacher = targets(0)
    labels = scaled(labels)  # equal sums: the cross-entropy divides by them
    mixed, mixed_weights = (
        torch.from_numpy(value)[None] for value in mix_targets(labels, weights, teacher, SIGMA, 0.3, 0.2)
    )
    maps = torch.randn(1, KEYPOINTS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1), requires_grad=True)
    labeled, unlabeled = torch.tensor([[1.0, 1, 0]]), torch.tensor([[0, 0, 1.0]])
    labels, teacher = torch.from_numpy(labels)[None], torch.from_numpy(scaled(teacher))[None]
    expected = 0.7 * loss(maps, labels, labeled) + 0.3 * loss(maps, teacher, labeled) + loss(maps, teacher, unlabeled)

    actual = loss(maps, mixed, mixed_weights)

    gradients = [torch.autograd.grad(value, maps)[0] for value in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("teacher_peak", [0.1, 0.0])
def test_keypoints_below_the_threshold_get_nothing_from_the_teacher(teacher_peak):
    labels, weights, teacher = targets(1)
    threshold = 0.2 if teacher_peak else 0.0

    mixed, mixed_weights = mix_targets(labels, weights, teacher_peak * teacher, SIGMA, 0.5, threshold)

    np.testing.assert_array_equal(mixed, labels)
    np.testing.assert_array_equal(mixed_weights, weights)


def test_noise_of_the_teacher_is_removed():
    _, _, teacher = targets(2)
    clean = np.round(teacher * 255).astype(np.uint8)
    noisy = np.where(clean == 0, 5, clean).astype(np.uint8)

    warped = warp_heatmaps(noisy, np.eye(2, 3), (WIDTH, HEIGHT))

    np.testing.assert_allclose(
        warped, np.where(clean >= 0.1 * clean.max((1, 2), keepdims=True), clean, 0) / 255, atol=1e-6
    )


def random_views(count, upright):
    rng = np.random.default_rng(4)
    for _ in range(count):
        factor = rng.uniform(0.65, 1.35)
        yield replace(
            upright,
            scale=(upright.scale[0] * factor, upright.scale[1] * factor),
            rotation_deg=rng.uniform(-45, 45),
            flip=bool(rng.integers(2)),
        )


@pytest.mark.parametrize(
    ("teacher_hw", "narrower"),
    [((256, 192), 0.12), ((224, 160), 0.12), ((384, 288), 0.35)],  # the cut at the noise level moves inwards
)
def test_teacher_maps_show_the_keypoints_where_the_targets_of_any_view_have_them(teacher_hw, narrower):
    rng = np.random.default_rng(5)
    keypoints_image = rng.uniform([35, 50], [65, 110], (17, 2))
    bbox, teacher_input = np.array([20.0, 30, 60, 100]), InputConfig(size_hw=teacher_hw, sigma=SIGMA)
    teacher_view = box_to_view(bbox, teacher_input.aspect_ratio)
    seen_upright, _ = encode(
        transform_points(keypoints_image, view_to_matrix(teacher_view, teacher_input.size_wh)),
        [1] * 17,
        teacher_input.heatmap_wh,
    )
    teacher = TeacherHeatmaps(np.round(seen_upright[None] * 255).astype(np.uint8), teacher_input, 1.0, 0.2)
    for view in random_views(20, box_to_view(bbox, 0.75)):
        keypoints_input = transform_points(keypoints_image, view_to_matrix(view, (192, 256)))
        order = COCO.flip_order if view.flip else None
        expected, weights = encode(keypoints_input if order is None else keypoints_input[order], [1] * 17, HEATMAP_WH)

        actual, actual_weights = teacher.mix(
            0, bbox, view_to_matrix(view, HEATMAP_WH), order, 0 * expected, 0 * weights
        )

        np.testing.assert_array_equal(actual_weights, 1)
        # Both round a keypoint to the grid, in different views.
        np.testing.assert_allclose(decode(actual)[0], decode(expected)[0], atol=1.5)
        spread = np.sqrt(actual.sum((1, 2)) / actual.max((1, 2)) / (2 * np.pi))
        np.testing.assert_allclose(spread, SIGMA, rtol=narrower)


def test_targets_of_a_sample_contain_its_teacher(tiny_coco):
    from pose.datasets.coco import annotated_persons
    from pose.datasets.samples import TrainingSamples

    persons = annotated_persons(tiny_coco.annotations, tiny_coco.images, COCO)
    no_view = AugmentConfig(flip_probability=0, rotation_probability=0, scale_std=0, half_body_probability=0)
    maps = np.zeros((len(persons), 17, 64, 48), np.uint8)
    maps[:, :, 20:23, 30:33] = 200
    teacher = TeacherHeatmaps(maps, InputConfig(sigma=SIGMA), 0.25, 0.3)
    plain, mixed = (
        TrainingSamples(persons, COCO, InputConfig(), no_view, 0, teacher=value)[0, 1] for value in (None, teacher)
    )
    labeled = plain.weights.numpy() > 0
    soft = np.zeros((64, 48), np.float32)
    soft[20:23, 30:33] = 2 * math.pi * SIGMA**2 / 9

    assert 0 < labeled.sum() < 17
    assert (mixed.weights == 1).all()
    np.testing.assert_allclose(mixed.heatmaps[labeled], 0.75 * plain.heatmaps[labeled] + 0.25 * soft, atol=1e-5)
    np.testing.assert_allclose(
        mixed.heatmaps[~labeled], np.broadcast_to(soft, (17 - int(labeled.sum()), 64, 48)), atol=1e-5
    )
