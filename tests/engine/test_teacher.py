"""Teacher heatmaps equal those of the model in the file; mixed targets give the weighted sum of two losses."""

import math

import numpy as np
import pytest
import torch

from pose.datasets.samples import PoseSample
from pose.engine.losses import cross_entropy, mse
from pose.engine.pose_task import pose_loss
from pose.engine.teacher import Teacher, mix_targets
from pose.errors import ConfigError
from pose.export.onnx import predictor_to_onnx, to_onnx
from pose.heatmap import encode
from pose.inference.metadata import ExportMetadata
from pose.inference.pytorch import normalize, predict_heatmaps
from pose.models import build_pose_net

onnx = pytest.importorskip("onnx", reason="needs onnx to export a teacher")
pytest.importorskip("onnxruntime", reason="needs onnxruntime to run a teacher")

SIGMA = 2.0
KEYPOINTS, HEIGHT, WIDTH = 3, 16, 12


@pytest.fixture(scope="module")
def teacher_model(tiny_config):
    """A random pose model with confident maps."""
    torch.manual_seed(5)
    model = build_pose_net(tiny_config())
    torch.nn.init.normal_(model.head[-1].weight, std=0.5)
    return model.eval()


@pytest.fixture(scope="module")
def crops():
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 64, 64, 3), generator=rng, dtype=torch.uint8)


def write(path, content):
    path.write_bytes(content)
    return path


def fixed_batch_of_one(content):
    model = onnx.load_model_from_string(content)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return model.SerializeToString()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kind", ["normalized images", "fixed batch of one", "export of this project"])
def test_teacher_gives_the_heatmaps_of_its_model(kind, flip, teacher_model, crops, tiny_config, tmp_path):
    config = tiny_config(f"train.teacher_flip={str(flip).lower()}")
    if kind == "export of this project":
        metadata = ExportMetadata(config.input, config.keypoints, None, "MIT")
        content = predictor_to_onnx(teacher_model, metadata, decodes=True)
    else:
        content = to_onnx(teacher_model, config.input.size_hw)
    if kind == "fixed batch of one":
        content = fixed_batch_of_one(content)
    teacher = Teacher(write(tmp_path / "teacher.onnx", content), config)

    expected = predict_heatmaps(teacher_model.heatmaps, crops, config.keypoints.flip_pairs if flip else None)

    torch.testing.assert_close(teacher.heatmaps(crops), expected, rtol=1e-3, atol=1e-4)


def test_teacher_of_another_input_size_is_rejected_with_both_sizes(teacher_model, tiny_config, tmp_path):
    content = fixed_batch_of_one(to_onnx(teacher_model, (96, 64)))

    with pytest.raises(ConfigError, match=r"teacher\.onnx: expected one input .*3, 64, 64.*96, 64") as error:
        Teacher(write(tmp_path / "teacher.onnx", content), tiny_config())

    assert "\n" not in str(error.value)


def test_teacher_with_other_keypoints_is_rejected_with_the_shapes(tiny_config, teacher_model, tmp_path):
    path = write(tmp_path / "teacher.onnx", to_onnx(teacher_model, (64, 64)))
    config = tiny_config("skeleton.names=[left_wing,right_wing]")

    with pytest.raises(ConfigError, match=r"expected one output of heatmaps .*\[1, 2, 16, 16\].*\[1, 17, 16, 16\]"):
        Teacher(path, config)


@pytest.mark.parametrize("content", [None, b"", b"not an ONNX file"])
def test_missing_or_damaged_teacher_is_rejected(content, tiny_config, tmp_path):
    path = tmp_path / "teacher.onnx"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"teacher\.onnx: (no such|not an ONNX)"):
        Teacher(path, tiny_config())


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


def test_training_loss_with_a_teacher_uses_the_mixed_targets(teacher_model, crops, tiny_config, tmp_path):
    path = write(tmp_path / "teacher.onnx", to_onnx(teacher_model, (64, 64)))
    config = tiny_config(f"train.teacher={path}", "train.teacher_threshold=0.05")
    labels, weights = torch.rand(3, 17, 16, 16), torch.ones(3, 17)
    weights[:, 5] = 0
    batch = PoseSample(crops, labels, weights, torch.arange(3))
    torch.manual_seed(1)
    student = build_pose_net(config).eval()
    teacher_maps = Teacher(path, config).heatmaps(crops)
    mixed = mix_targets(labels, weights, teacher_maps, config.input.sigma, 0.5, 0.05)
    assert (mixed[1] > weights).any(), "the teacher shows the unlabeled keypoint"

    loss, ids = pose_loss(config, torch.device("cpu"))(student, batch)

    torch.testing.assert_close(loss, cross_entropy(student(normalize(crops)), *mixed))
    assert ids.tolist() == [0, 1, 2]
