"""Training on mixed targets equals training on the weighted sum of a loss on the labels and one on the teacher."""

import math

import numpy as np
import pytest
import torch

from pose.datasets.samples import PoseSample
from pose.engine.distillation import mix_targets
from pose.engine.losses import cross_entropy, mse
from pose.engine.pose_task import pose_loss
from pose.heatmap import encode
from pose.inference.pytorch import normalize
from pose.inference.teacher import Teacher
from pose.models import build_pose_net

SIGMA = 2.0
KEYPOINTS, HEIGHT, WIDTH = 3, 16, 12


def targets(seed):
    """Label targets of one sample with keypoint 2 unlabeled, and soft teacher maps near them, all confident."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(12, 36, (KEYPOINTS, 2))
    labels, weights = encode(centers, [1, 2, 0], (WIDTH, HEIGHT), 4, SIGMA)
    soft, _ = encode(centers + rng.uniform(-4, 4, (KEYPOINTS, 2)), [1] * KEYPOINTS, (WIDTH, HEIGHT), 4, SIGMA)
    return [torch.from_numpy(value)[None] for value in (labels, weights, 0.8 * soft)]


def scaled(maps):
    """Maps without noise, scaled to the sum of a Gaussian with peak 1."""
    clean = torch.where(maps >= 0.1 * maps.amax((2, 3), keepdim=True), maps, 0)
    return clean / clean.sum((2, 3), keepdim=True).clamp_min(1e-6) * (2 * math.pi * SIGMA**2)


@pytest.mark.parametrize("loss", [mse, cross_entropy])
def test_loss_on_mixed_targets_has_the_gradient_of_the_weighted_sum_of_both_losses(loss):
    labels, weights, soft = targets(0)
    labels = scaled(labels)  # equal sums: the cross-entropy divides by them
    mixed, mixed_weights = mix_targets(labels, weights, soft, SIGMA, 0.3, 0.2)
    maps = torch.randn(1, KEYPOINTS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1), requires_grad=True)
    labeled, unlabeled = torch.tensor([[1.0, 1, 0]]), torch.tensor([[0, 0, 1.0]])
    teacher_maps = scaled(soft)
    expected = (
        0.7 * loss(maps, labels, labeled)
        + 0.3 * loss(maps, teacher_maps, labeled)
        + loss(maps, teacher_maps, unlabeled)
    )

    actual = loss(maps, mixed, mixed_weights)

    gradients = [torch.autograd.grad(value, maps)[0] for value in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_keypoints_below_the_threshold_get_nothing_from_the_teacher():
    labels, weights, soft = targets(1)
    mixed, mixed_weights = mix_targets(labels, weights, 0.1 * soft, SIGMA, 0.5, 0.2)

    torch.testing.assert_close(mixed, labels)
    torch.testing.assert_close(mixed_weights, weights)


def test_map_without_a_positive_value_gives_no_target_even_at_threshold_zero():
    labels, weights, _ = targets(1)
    mixed, mixed_weights = mix_targets(labels, weights, -torch.ones_like(labels), SIGMA, 0.5, 0.0)

    torch.testing.assert_close(mixed, labels)
    torch.testing.assert_close(mixed_weights, weights)


def test_noise_of_the_teacher_does_not_reach_the_targets():
    labels, weights, soft = targets(2)
    noisy = torch.where(soft == 0, 0.02, soft)

    clean, _ = mix_targets(labels, weights, soft, SIGMA, 1.0, 0.2)
    mixed, _ = mix_targets(labels, weights, noisy, SIGMA, 1.0, 0.2)

    torch.testing.assert_close(mixed, clean)


def test_training_loss_with_a_teacher_uses_the_mixed_targets(tiny_config, tmp_path):
    pytest.importorskip("onnx", reason="needs onnx to export a teacher")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime to run a teacher")
    from pose.export.onnx import to_onnx

    path = tmp_path / "teacher.onnx"
    config = tiny_config(f"train.teacher={path}", "train.teacher_threshold=0.05")
    torch.manual_seed(5)
    teacher_model, student = build_pose_net(config).eval(), build_pose_net(config).eval()
    torch.nn.init.normal_(teacher_model.head[-1].weight, std=0.5)
    path.write_bytes(to_onnx(teacher_model, config.input.size_hw))
    crops = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    labels, weights = torch.rand(3, 17, 16, 16), torch.ones(3, 17)
    weights[:, 5] = 0
    teacher_maps = Teacher(path, config.keypoints, config.input).heatmaps(crops)
    mixed, mixed_weights = mix_targets(labels, weights, teacher_maps, config.input.sigma, 0.5, 0.05)
    assert (mixed_weights > weights).any(), "the teacher shows the unlabeled keypoint"

    loss, ids = pose_loss(config, torch.device("cpu"))(
        student, PoseSample(crops, labels, weights, torch.arange(3))
    )  # fmt: skip

    torch.testing.assert_close(loss, cross_entropy(student(normalize(crops)), mixed, mixed_weights))
    assert ids.tolist() == [0, 1, 2]
