"""An exported model is tested as the model in PyTorch is, with the flip average that it does itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pose.config.pose import SkeletonConfig
from pose.engine.distributed import DistContext
from pose.engine.evaluate import load_for_eval, load_test_set, predict_crops, predict_persons
from pose.errors import CheckpointError
from pose.export.write import build_onnx, write_export
from pose.inference.metadata import ExportMetadata
from pose.models import build_pose_net

ALONE = DistContext(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def model(tiny_config):
    torch.manual_seed(0)
    model = build_pose_net(tiny_config()).eval()
    torch.nn.init.normal_(model.head[-1].weight)
    return model


@pytest.fixture(scope="module")
def metadata(tiny_config):
    config = tiny_config()
    return ExportMetadata(config.input, config.keypoints, flip_shift=0, licence="MIT")


def export(path, model, metadata):
    with write_export(path, build_onnx(path, model, metadata, decodes=True), metadata):
        pass
    return path


def test_it_finds_what_the_model_finds_with_the_flip_average_of_the_file(
    suffix, model, metadata, tiny_config, tmp_path
):
    config = tiny_config("test.flip=false", "test.flip_shift=1")
    persons = load_test_set(config, ground_truth=True).persons
    averages = {"flip": True, "flip_shift": 0}

    crops_to_heatmaps, theirs = load_for_eval(config, export(tmp_path / f"model{suffix}", model, metadata))

    assert theirs.test == config.test.model_copy(update=averages)
    found = predict_crops(crops_to_heatmaps, persons, theirs, ALONE, workers=0)
    expected = predict_persons(model.heatmaps, persons, theirs, ALONE, workers=0)
    np.testing.assert_allclose(found.keypoint_scores, expected.keypoint_scores, rtol=1e-3)
    np.testing.assert_allclose(found.keypoints_image, expected.keypoints_image, atol=1e-2)


def test_a_file_without_flip_average_is_tested_without(suffix, model, metadata, tiny_config, tmp_path):
    path = export(tmp_path / f"model{suffix}", model, replace(metadata, flip_shift=None))

    assert load_for_eval(tiny_config("test.flip=true"), path)[1].test.flip is False


@pytest.mark.parametrize("suffix", [".onnx"], indirect=True)
def test_a_file_for_other_crops_or_keypoints_is_refused(suffix, model, metadata, tiny_config, tmp_path):
    path = export(tmp_path / "model.onnx", model, metadata)

    with pytest.raises(CheckpointError, match=r"model\.onnx: exported with another input than the config's"):
        load_for_eval(tiny_config("input.padding=1.5"), path)
    hand = SkeletonConfig(names=("left_tip", "right_tip"))
    with pytest.raises(CheckpointError, match="another skeleton"):
        load_for_eval(tiny_config().model_copy(update={"skeleton": hand}), path)
