"""The worked example of docs/custom_keypoints.md: 60 images, 5 keypoints, two epochs, predict, export, test."""

import json
import re
from pathlib import Path

import cv2
import pytest

from pose.data.browse import main as browse
from pose.data.check_data import main as check_data
from pose.inference.backends import open_exported
from pose.inference.metadata import read_metadata
from pose.inference.pytorch import PyTorchPredictor
from pose.models.weights import load_pose_net
from pose.tools.demo_video import main as demo_video
from pose.tools.export import main as export
from pose.tools.test import main as evaluate
from pose.tools.train import main as train

PAGE = Path(__file__).resolve().parents[2] / "docs/custom_keypoints.md"
NAMES = ("head", "body", "tail", "wing_l", "wing_r")
SMALL = ("input.size_hw=[96,96]", "train.workers=0")
"""The only differences from the page: a quarter of the pixels."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Train as the page says, in a folder that was empty."""
    folder = tmp_path_factory.mktemp("example")
    (config,) = re.findall(r"^```yaml\n(base: .*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (folder / "butterflies.yaml").write_text(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        check_data(["--cfg", "butterflies.yaml", *SMALL])
        browse(["--cfg", "butterflies.yaml", "--samples", "3", "--output", "samples.html", *SMALL])
        train(["--cfg", "butterflies.yaml", "--run-dir", "runs/butterflies", "--device", "cpu", *SMALL])
        # All that follows must work without the annotations of the training set.
        Path("data/butterflies/annotations/person_keypoints_train.json").unlink()
    return folder


def test_the_data_set_has_60_images(folder):
    assert [len(list((folder / "data/butterflies" / split).iterdir())) for split in ("train", "val")] == [48, 12]


def test_the_run_prints_its_flip_pairs_and_draws_what_the_model_sees(folder):
    run = folder / "runs/butterflies"
    log = (run / "train.log").read_text()
    assert "flip pairs: wing_l<->wing_r" in log
    assert "warning" not in log
    assert re.search(r"epoch 1/2: loss [\d.]+, .* s, the run has about .* left", log)
    for name in ("train_batch.jpg", "val_pred.jpg"):
        assert cv2.imread(str(run / name)) is not None
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["kind"] == "epoch"] == [1, 2]
    assert all(row["loss"] > 0 and row["seconds"] > 0 for row in rows if row["kind"] == "epoch")
    assert "data:image/jpeg;base64," in (folder / "samples.html").read_text()


def test_the_weight_file_holds_the_keypoint_set(folder):
    _, config = load_pose_net(folder / "runs/butterflies")

    assert config.keypoints.names == NAMES
    assert config.keypoints.flip_pairs == ((3, 4),)
    assert config.keypoints.limbs == ((0, 1), (1, 2), (1, 3), (1, 4))


def test_prediction_needs_only_the_weight_file(folder, monkeypatch):
    monkeypatch.chdir(folder)
    boxes = "data/butterflies/annotations/person_detections_val.json"
    demo_video(
        ["--weights", "runs/butterflies", "--input", "data/butterflies/val", "--output", "drawn", "--boxes", boxes,
         "--json", "poses.json", "--device", "cpu"]
    )  # fmt: skip

    assert len(list((folder / "drawn").iterdir())) == 12
    assert all(name in (folder / "poses.json").read_text() for name in NAMES)
    poses = PyTorchPredictor("runs/butterflies", "cpu")(
        next(Path("data/butterflies/val").iterdir()), [[20, 20, 90, 80]]
    )
    assert poses.keypoints.shape == (1, 5, 2)


def test_the_exported_model_holds_the_keypoint_set_and_is_tested_without_training_annotations(
    folder, monkeypatch, capsys
):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    monkeypatch.chdir(folder)
    export(["--weights", "runs/butterflies", "--output", "butterflies.onnx", "--images", "data/butterflies/val"])
    metadata = read_metadata(open_exported(Path("butterflies.onnx"), 1).metadata, Path("butterflies.onnx"))
    assert metadata.skeleton == load_pose_net("runs/butterflies")[1].keypoints

    evaluate(["--cfg", "butterflies.yaml", "--weights", "butterflies.onnx", "--gt-boxes", *SMALL, "test.flip=false"])
    evaluate(["--cfg", "butterflies.yaml", "--weights", "runs/butterflies", "--gt-boxes", *SMALL])
    assert "wing_l" in capsys.readouterr().out
