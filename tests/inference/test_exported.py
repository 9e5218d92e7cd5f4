"""`ExportedPredictor` returns the keypoints of `PyTorchPredictor`, in each backend and without PyTorch."""

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
from pose.inference.pytorch import PyTorchPredictor
from pose.models import build_pose_net
from pose.models.weights import write_weights
from pose.skeleton import COCO

ROOT = Path(__file__).resolve().parents[2]
MODEL = ModelConfig(width=0.35, depth=0.1, head_width=0.25, dynamic_backbone=True)
CONFIG = Config(model=MODEL, input=InputConfig(size_hw=(96, 64), padding=1.4))
METADATA = ExportMetadata(CONFIG.input, COCO, flip_shift=None, licence="of the test")
BOXES = [[[10, 12, 40, 80], [60.5, 5.25, 30, 90]], [], [[-5, 20, 70, 60], [0, 0, 100, 140], [30, 30, 20, 20]]]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8) for size_hw in ((120, 100), (50, 60), (140, 100))]
    return [cv2.GaussianBlur(image, (0, 0), 4) for image in noise]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build_pose_net(CONFIG)
    torch.nn.init.normal_(model.head[-1].weight, std=0.1)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model(torch.randn(8, 3, 96, 64))
    return model.eval()


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "best.pt"
    write_weights({"model": model.state_dict(), "config": CONFIG.model_dump(mode="json")}, path)
    return path


@pytest.fixture(scope="module")
def exported(suffix, model, tmp_path_factory):
    """A function that exports the model with or without flip averaging and decoding."""
    folder = tmp_path_factory.mktemp("exported")

    def export(flip, decodes):
        path = folder / f"{flip}_{decodes}{suffix}"
        if not path.exists():
            metadata = replace(METADATA, flip_shift=1 if flip else None)
            with write_export(path, build_onnx(path, model, metadata, decodes=decodes), metadata):
                pass
        return path

    return export


@pytest.mark.parametrize("decodes", [True, False])
@pytest.mark.parametrize("flip", [True, False])
def test_exported_predictor_matches_pose_predictor_at_any_batch_size(exported, weights, images, flip, decodes):
    expected = PyTorchPredictor(weights, "cpu", flip=flip).predict_batch(images, BOXES)

    predictor = ExportedPredictor(exported(flip, decodes), threads=1)
    for batch_size in (1, 3, 8):
        predictor.batch_size = batch_size
        results = predictor.predict_batch(images, BOXES)

        assert [len(poses) for poses in results] == [2, 0, 3]
        for poses, reference in zip(results, expected, strict=True):
            np.testing.assert_allclose(poses.scores, reference.scores, rtol=1e-3)
            np.testing.assert_allclose(poses.keypoints, reference.keypoints, atol=1e-3)
            np.testing.assert_array_equal(poses.bboxes_xywh, reference.bboxes_xywh)
            assert poses.keypoints.dtype == poses.scores.dtype == np.float32


@pytest.mark.parametrize("decodes", [True, False])
def test_dark_decoding_uses_the_heatmaps_also_of_files_that_decode(exported, weights, images, decodes):
    expected, quarter = (
        PyTorchPredictor(weights, "cpu", decode=d).predict_batch(images, BOXES) for d in ("dark", "quarter")
    )

    results = ExportedPredictor(exported(True, decodes), decode="dark", threads=1).predict_batch(images, BOXES)

    for poses, reference in zip(results, expected, strict=True):
        np.testing.assert_allclose(poses.keypoints, reference.keypoints, atol=1e-2)
    assert any((dark.keypoints != other.keypoints).any() for dark, other in zip(expected, quarter, strict=True))


def test_exported_predictor_takes_paths_arrays_and_boxes(exported, images, tmp_path):
    predictor = ExportedPredictor(str(exported(False, True)))
    cv2.imwrite(str(tmp_path / "image.png"), images[0])

    np.testing.assert_array_equal(
        predictor(tmp_path / "image.png", "image").keypoints, predictor(images[0], [[0, 0, 100, 120]]).keypoints
    )
    assert predictor.skeleton == COCO
    with pytest.raises(DataError, match="expected boxes"):
        predictor(images[0], [1, 2, 3, 4])


def test_a_model_without_metadata_is_refused(model, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    (tmp_path / "bare.onnx").write_bytes(to_onnx(model, (96, 64)))

    with pytest.raises(CheckpointError, match=r"bare\.onnx: has no 'input' in its metadata"):
        ExportedPredictor(tmp_path / "bare.onnx")


def test_running_an_exported_model_does_not_import_torch(exported, tmp_path):
    image, drawn, exported_path = tmp_path / "in.png", tmp_path / "out.png", exported(True, True)
    cv2.imwrite(str(image), np.full((60, 40, 3), 90, np.uint8))
    code = (
        "import sys, pose; from pose.tools.demo_video import main\n"
        f"main(['--weights', {str(exported_path)!r}, '--input', {str(image)!r}, '--output', {str(drawn)!r}])\n"
        f"assert len(pose.ExportedPredictor({str(exported_path)!r})({str(image)!r})) == 1\n"
        "sys.exit('torch' in sys.modules)"
    )

    completed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert completed.returncode == 0, completed.stderr
    assert drawn.is_file()
