"""An exported net is tested as the net in PyTorch is, with the flip average that it does itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pose.config.pose import SkeletonConfig
from pose.engine.distributed import Processes
from pose.engine.evaluate import load_test_set, open_to_test, predict_crops, predict_persons
from pose.errors import CheckpointError
from pose.export.write import content_for, exporting
from pose.inference.metadata import NetCard
from pose.models import build_pose_net

ALONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def net(tiny_config):
    torch.manual_seed(0)
    net = build_pose_net(tiny_config()).eval()
    torch.nn.init.normal_(net.head[-1].weight)
    return net


@pytest.fixture(scope="module")
def card(tiny_config):
    config = tiny_config()
    return NetCard(config.input, config.keypoints, flip_shift=0, licence="MIT")


def export(path, net, card):
    with exporting(path, content_for(path, net, card, decodes=True), card):
        pass
    return path


def test_it_finds_what_the_net_finds_with_the_flip_average_of_the_file(suffix, net, card, tiny_config, tmp_path):
    config = tiny_config("test.flip=false", "test.flip_shift=1")
    persons = load_test_set(config, ground_truth=True).persons
    averages = {"flip": True, "flip_shift": 0}

    find_heatmaps, theirs = open_to_test(config, export(tmp_path / f"net{suffix}", net, card))

    assert theirs.test == config.test.model_copy(update=averages)
    found = predict_crops(find_heatmaps, persons, theirs, ALONE, workers=0)
    expected = predict_persons(net.heatmaps, persons, theirs, ALONE, workers=0)
    np.testing.assert_allclose(found.keypoint_scores, expected.keypoint_scores, rtol=1e-3)
    np.testing.assert_allclose(found.keypoints_image, expected.keypoints_image, atol=1e-2)


def test_a_file_without_flip_average_is_tested_without(suffix, net, card, tiny_config, tmp_path):
    path = export(tmp_path / f"net{suffix}", net, replace(card, flip_shift=None))

    assert open_to_test(tiny_config("test.flip=true"), path)[1].test.flip is False


@pytest.mark.parametrize("suffix", [".onnx"], indirect=True)
def test_a_file_for_other_crops_or_keypoints_is_refused(suffix, net, card, tiny_config, tmp_path):
    path = export(tmp_path / "net.onnx", net, card)

    with pytest.raises(CheckpointError, match=r"net\.onnx: exported with another input than the config's"):
        open_to_test(tiny_config("input.padding=1.5"), path)
    hand = SkeletonConfig(names=("left_tip", "right_tip"))
    with pytest.raises(CheckpointError, match="another skeleton"):
        open_to_test(tiny_config().model_copy(update={"skeleton": hand}), path)
