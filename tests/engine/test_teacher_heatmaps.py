"""The heatmaps of a teacher are those of its model, computed once for the same file, persons, images and options."""

import numpy as np
import pytest
import torch

from pose.config.data import DataConfig
from pose.config.pose import Config, InputConfig, ModelConfig, TrainConfig
from pose.datasets.coco import annotated_persons
from pose.datasets.samples import TestCrops
from pose.engine.teacher_heatmaps import open_teacher_heatmaps
from pose.export.onnx import to_onnx
from pose.inference.pytorch import predict_heatmaps
from pose.models import build_pose_net
from pose.skeleton import COCO

onnx = pytest.importorskip("onnx", reason="needs onnx to export a teacher")
pytest.importorskip("onnxruntime", reason="needs onnxruntime to run a teacher")


def test_heatmaps_of_a_teacher_are_computed_once_and_again_when_something_changes(tmp_path, tiny_coco):

    torch.manual_seed(5)
    path, small = tmp_path / "teacher.onnx", InputConfig(size_hw=(64, 64))
    config = Config(
        model=ModelConfig(width=0.35, depth=0.1, head_width=0.25), input=small, data=DataConfig(root=tmp_path),
        train=TrainConfig(teacher=path, workers=0),
    )  # fmt: skip
    model = build_pose_net(config).eval()
    torch.nn.init.normal_(model.head[-1].weight, std=0.5)
    path.write_bytes(to_onnx(model, small.size_hw))
    persons = annotated_persons(tiny_coco.annotations, tiny_coco.images, COCO)
    crops = torch.stack([TestCrops(persons, small)[row].image for row in range(len(persons))])
    expected = predict_heatmaps(model.heatmaps, crops, COCO.flip_pairs).clamp(0, 1).numpy()

    first = open_teacher_heatmaps(config, persons)
    (file,) = tmp_path.glob("teacher_*.npy")
    written = file.stat().st_mtime_ns
    open_teacher_heatmaps(config, persons)

    np.testing.assert_allclose(first.maps / 255, expected, atol=0.5 / 255 + 1e-3)
    assert file.stat().st_mtime_ns == written
    open_teacher_heatmaps(config.model_copy(update={"input": replace_padding(small)}), persons)
    assert len(list(tmp_path.glob("teacher_*.npy"))) == 2


def test_a_student_of_another_input_size_has_the_heatmaps_of_the_teachers_own_crops(tmp_path, tiny_coco):
    teacher_input, path = InputConfig(size_hw=(96, 64)), tmp_path / "teacher.onnx"
    train = TrainConfig(teacher=path, workers=0)
    model_config = ModelConfig(width=0.35, depth=0.1, head_width=0.25)
    config = Config(model=model_config, input=teacher_input, data=DataConfig(root=tmp_path), train=train)
    torch.manual_seed(5)
    model = build_pose_net(config).eval()
    torch.nn.init.normal_(model.head[-1].weight, std=0.5)
    path.write_bytes(to_onnx(model, teacher_input.size_hw))
    persons = annotated_persons(tiny_coco.annotations, tiny_coco.images, COCO)

    heatmaps = open_teacher_heatmaps(config.model_copy(update={"input": InputConfig(size_hw=(64, 64))}), persons)

    assert heatmaps.input_config == teacher_input
    np.testing.assert_array_equal(heatmaps.maps, open_teacher_heatmaps(config, persons).maps)
    assert len(list(tmp_path.glob("teacher_*.npy"))) == 1


def replace_padding(config):
    return config.model_copy(update={"padding": 1.4})
