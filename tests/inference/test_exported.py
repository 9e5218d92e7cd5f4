"""Exported models without PyTorch give the answers of `PosePredictor`, in every engine."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.errors import CheckpointError, DataError
from pose.export.onnx import to_onnx
from pose.export.write import build_onnx, write_export
from pose.inference.exported import ExportedPredictor
from pose.inference.metadata import ExportMetadata
from pose.inference.pytorch import PosePredictor
from pose.models import build_pose_net
from pose.models.weights import write_weights
from pose.skeleton import COCO

ROOT = Path(__file__).resolve().parents[2]
MODEL = ModelConfig(width=0.35, depth=0.1, head_width=0.25, dynamic_backbone=True)
CONFIG = Config(model=MODEL, input=InputConfig(size_hw=(96, 64), padding=1.4))
CARD = ExportMetadata(CONFIG.input, COCO, flip_shift=None, licence="of the test")
BOXES = [[[10, 12, 40, 80], [60.5, 5.25, 30, 90]], [], [[-5, 20, 70, 60], [0, 0, 100, 140], [30, 30, 20, 20]]]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8) for size_hw in ((120, 100), (50, 60), (140, 100))]
    return [cv2.GaussianBlur(image, (0, 0), 4) for image in noise]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = build_pose_net(CONFIG)
    torch.nn.init.normal_(net.head[-1].weight, std=0.1)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        net(torch.randn(8, 3, 96, 64))
    return net.eval()


@pytest.fixture(scope="module")
def weights(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "best.pt"
    write_weights({"model": net.state_dict(), "config": CONFIG.model_dump(mode="json")}, path)
    return path


@pytest.fixture(scope="module")
def exported(suffix, net, tmp_path_factory):
    """A function that gives the file for a flip and for decoding or not."""
    folder = tmp_path_factory.mktemp("exported")

    def export(flip, decodes):
        path = folder / f"{flip}_{decodes}{suffix}"
        if not path.exists():
            card = replace(CARD, flip_shift=1 if flip else None)
            with write_export(path, build_onnx(path, net, card, decodes=decodes), card):
                pass
        return path

    return export


@pytest.mark.parametrize("decodes", [True, False])
@pytest.mark.parametrize("flip", [True, False])
def test_an_exported_predictor_finds_what_the_predictor_finds_in_any_batch(exported, weights, images, flip, decodes):
    expected = PosePredictor(weights, "cpu", flip=flip).predict_batch(images, BOXES)

    predictor = ExportedPredictor(exported(flip, decodes), threads=1)
    for batch_size in (1, 3, 8):
        predictor.batch_size = batch_size
        found = predictor.predict_batch(images, BOXES)

        assert [len(poses) for poses in found] == [2, 0, 3]
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-3)
            np.testing.assert_allclose(ours.keypoints, theirs.keypoints, atol=1e-3)
            np.testing.assert_array_equal(ours.bboxes_xywh, theirs.bboxes_xywh)
            assert ours.keypoints.dtype == ours.scores.dtype == np.float32


def test_it_is_called_as_the_predictor_is(exported, images, tmp_path):
    predictor = ExportedPredictor(str(exported(False, True)))
    cv2.imwrite(str(tmp_path / "image.png"), images[0])

    np.testing.assert_array_equal(
        predictor(tmp_path / "image.png").keypoints, predictor(images[0], [[0, 0, 100, 120]]).keypoints
    )
    assert predictor.skeleton == COCO
    with pytest.raises(DataError, match="expected boxes"):
        predictor(images[0], [1, 2, 3, 4])


def test_a_model_without_its_surroundings_is_refused(net, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    (tmp_path / "bare.onnx").write_bytes(to_onnx(net, (96, 64)))

    with pytest.raises(CheckpointError, match=r"bare\.onnx: has no 'input' in its metadata"):
        ExportedPredictor(tmp_path / "bare.onnx")


def test_running_an_exported_model_never_loads_torch(exported, tmp_path):
    image, drawn, model = tmp_path / "in.png", tmp_path / "out.png", exported(True, True)
    cv2.imwrite(str(image), np.full((60, 40, 3), 90, np.uint8))
    code = (
        "import sys, pose; from pose.tools.demo_video import main\n"
        f"main(['--weights', {str(model)!r}, '--input', {str(image)!r}, '--output', {str(drawn)!r}])\n"
        f"assert len(pose.ExportedPredictor({str(model)!r})({str(image)!r})) == 1\n"
        "sys.exit('torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert drawn.is_file()
