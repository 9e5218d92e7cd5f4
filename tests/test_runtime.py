"""Exported nets without PyTorch: the same answers as `PosePredictor`'s, and files that say what they are."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pose.config import Config, InputConfig, ModelConfig, SkeletonConfig
from pose.errors import CheckpointError, DataError, PoseError
from pose.export import predictor_to_onnx, to_onnx
from pose.inference import PosePredictor
from pose.models import build_pose_net
from pose.runtime import NetCard, OnnxPredictor, open_session, read_card
from pose.skeleton import COCO
from pose.weights import write_weights

pytest.importorskip("onnx", reason="needs onnx to export")
pytest.importorskip("onnxruntime", reason="needs onnxruntime to run what was exported")

ROOT = Path(__file__).resolve().parents[1]
MODEL = ModelConfig(width=0.35, depth=0.1, head_width=0.25, dynamic_backbone=True)
CONFIG = Config(model=MODEL, input=InputConfig(size_hw=(96, 64), padding=1.4))
CARD = NetCard(CONFIG.input, COCO, flip=False, licence="of the test")
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
def exported(net, tmp_path_factory):
    """A file for each (flip, decodes)."""
    folder = tmp_path_factory.mktemp("onnx")
    files = {}
    for flip in (False, True):
        for decodes in (False, True):
            path = files[flip, decodes] = folder / f"{flip}_{decodes}.onnx"
            path.write_bytes(predictor_to_onnx(net, replace(CARD, flip=flip), decodes=decodes))
    return files


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("decodes", [True, False])
@pytest.mark.parametrize("flip", [True, False])
def test_an_exported_predictor_finds_what_the_predictor_finds(exported, weights, images, flip, decodes, batch_size):
    expected = PosePredictor(weights, "cpu", flip=flip).predict_batch(images, BOXES)

    found = OnnxPredictor(exported[flip, decodes], threads=1, batch_size=batch_size).predict_batch(images, BOXES)

    assert [len(poses) for poses in found] == [2, 0, 3]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-3)
        np.testing.assert_allclose(ours.keypoints, theirs.keypoints, atol=1e-3)
        np.testing.assert_array_equal(ours.bboxes_xywh, theirs.bboxes_xywh)
        assert ours.keypoints.dtype == ours.scores.dtype == np.float32


def test_it_is_called_as_the_predictor_is(exported, images, tmp_path):
    predictor = OnnxPredictor(str(exported[False, True]))
    cv2.imwrite(str(tmp_path / "picture.png"), images[0])

    np.testing.assert_array_equal(
        predictor(tmp_path / "picture.png").keypoints, predictor(images[0], [[0, 0, 100, 120]]).keypoints
    )
    assert predictor.skeleton == COCO
    with pytest.raises(DataError, match="expected boxes"):
        predictor(images[0], [1, 2, 3, 4])


def test_a_card_comes_back_from_its_metadata():
    fingers = Config(skeleton=SkeletonConfig(names=("left_tip", "right_tip"), limbs=((0, 1),), sigmas=(0.1, 0.2)))

    for card in (CARD, NetCard(InputConfig(), fingers.keypoints, flip=True, licence="CC0")):
        assert read_card(card.metadata(), Path("net.onnx")) == card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": None}, r"net\.onnx: has no 'input' in its metadata; export"),
        ({"licence": None}, "has no 'licence'"),
        ({"input": '{"size_hw": [100, 100]}'}, "does not fit this version .*multiples of 32"),
        ({"input": '{"size": 1}'}, "does not fit this version"),
        ({"skeleton": "nothing"}, "does not fit this version"),
        ({"skeleton": '{"names": ["a", "a"]}'}, "does not fit this version .*different"),
        ({"skeleton": '{"joints": 3}'}, "does not fit this version"),
        ({"flip": "perhaps"}, "does not fit this version"),
    ],
    ids=str,
)
def test_metadata_that_do_not_fit_are_named(change, message):
    metadata = {key: value for key, value in (CARD.metadata() | change).items() if value is not None}

    with pytest.raises(CheckpointError, match=message) as caught:
        read_card(metadata, Path("net.onnx"))
    assert "\n" not in str(caught.value)


def test_a_net_without_its_surroundings_is_refused(net, tmp_path):
    (tmp_path / "bare.onnx").write_bytes(to_onnx(net, (96, 64)))

    with pytest.raises(CheckpointError, match=r"bare\.onnx: has no 'input' in its metadata"):
        OnnxPredictor(tmp_path / "bare.onnx")


def test_running_an_exported_net_never_loads_torch(exported, tmp_path):
    picture, drawn, net = tmp_path / "in.png", tmp_path / "out.png", exported[True, True]
    cv2.imwrite(str(picture), np.full((60, 40, 3), 90, np.uint8))
    code = (
        "import sys, pose; from pose.tools.demo_video import main\n"
        f"main(['--weights', {str(net)!r}, '--input', {str(picture)!r}, '--output', {str(drawn)!r}])\n"
        f"assert len(pose.OnnxPredictor({str(net)!r})({str(picture)!r})) == 1\n"
        "sys.exit('torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert drawn.is_file()


def test_without_onnxruntime_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(PoseError, match="need the package onnxruntime; pip install"):
        open_session(Path("any.onnx"), threads=1)


def test_files_that_are_no_nets_are_one_line(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.onnx: no such ONNX file"):
        open_session(tmp_path / "none.onnx", threads=1)
    (tmp_path / "bad.onnx").write_bytes(b"not a net" * 9)
    with pytest.raises(CheckpointError, match=r"bad\.onnx: not an ONNX net") as caught:
        open_session(tmp_path / "bad.onnx", threads=1)
    assert "\n" not in str(caught.value)
