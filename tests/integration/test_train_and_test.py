"""Train, resume and test on the command line, as described in the README."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pycocotools.coco import COCO

from pose import PosePredictor
from pose.config.loader import load_config

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
base: quickstart
data:
  root: synthetic
  synthetic: {train_images: 10, val_images: 5, image_wh: [160, 120]}
model: {depth: 0.4, head_width: 0.125}
input: {size_hw: [96, 64]}
train: {epochs: 2, batch_size: 8, workers: 1, validate_every: 1}
"""


def run_tool(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        str(ROOT / "tools" / f"{name}.py"),
        "--cfg",
        "experiment.yaml",
        "--device",
        "cpu",
        *arguments,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working folder after training for two epochs, and for a third one with --resume."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "experiment.yaml").write_text(CONFIG)
    for arguments in ([], ["--resume", "train.epochs=3"]):
        done = run_tool(folder, "train", *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert "best validation AP" in done.stderr
    return folder


@pytest.fixture(scope="module")
def run_folder(folder: Path) -> Path:
    (run,) = (folder / "runs/experiment").iterdir()
    return run


@pytest.fixture(scope="module")
def tested(folder: Path) -> subprocess.CompletedProcess[str]:
    done = run_tool(folder, "test", "--weights", "runs/experiment", "--output", "out", "--picture", "people.jpg")
    assert done.returncode == 0, done.stderr
    return done


def test_the_run_folder_holds_all_files(run_folder):
    names = sorted(path.name.split(".tfevents")[0] for path in run_folder.iterdir())

    # One event file for each call of the tool.
    assert names == [
        "best.pt", "config.yaml", "events.out", "events.out", "last.pt", "metrics.jsonl", "train.log",
        "train_batch.jpg", "val_pred.jpg",
    ]  # fmt: skip


def test_the_saved_config_equals_the_resolved_config(folder, run_folder, monkeypatch):
    monkeypatch.chdir(folder)

    assert load_config(run_folder / "config.yaml") == load_config("experiment.yaml", ["train.epochs=3"])


def test_metrics_rows_of_a_resumed_run_continue_the_curve(run_folder):
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]

    assert [(row["kind"], row["epoch"]) for row in rows] == [
        (kind, epoch) for epoch in (1, 2, 3) for kind in ("train", "epoch", "validation")
    ]
    rows = [row for row in rows if row["kind"] != "epoch"]
    seconds, samples = ([row[name] for row in rows] for name in ("seconds", "samples"))
    assert seconds == sorted(seconds)
    assert samples == sorted(samples)
    assert all(0 <= row["data_wait_share"] <= 1 for row in rows if row["kind"] == "train")


def test_train_log_records_batch_resume_and_validation(run_folder):
    log = (run_folder / "train.log").read_text()

    for text in ("global batch 8", "epoch 2,", "resumed", "after 2 epochs", "epoch 3,", "detector boxes of"):
        assert text in log


def test_the_last_checkpoint_holds_the_progress(run_folder):
    progress = torch.load(run_folder / "last.pt", weights_only=True)["progress"]

    assert (progress["epoch"], progress["step"]) == (3, 0)
    assert progress["samples"] == 8 * progress["global_step"]


def test_test_prints_the_metrics_and_the_protocol_line(tested):
    table, *_, protocol = tested.stdout.strip().split("\n")

    assert table.split() == ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]
    assert protocol.startswith("experiment: ")
    assert "detector boxes of person_detections_val.json; input 96x64 (h x w), flip average on" in protocol


def test_test_writes_results_in_coco_format(tested, folder):
    ground_truth = COCO(str(folder / "synthetic/annotations/person_keypoints_val.json"))
    metrics = json.loads((folder / "out/metrics.json").read_text())

    assert ground_truth.loadRes(str(folder / "out/results.json")).anns
    assert metrics["boxes"] == "detector boxes of person_detections_val.json"
    assert metrics["protocol"] in tested.stdout
    assert (folder / "people.jpg").stat().st_size > 1000


def test_pose_predictor_loads_a_run_folder(run_folder, folder):
    image = next((folder / "synthetic/val").iterdir())

    poses = PosePredictor(run_folder, device="cpu")(image, [[10, 10, 60, 90], [40, 5, 50, 100]])

    assert poses.keypoints.shape == (2, 17, 2)
    assert poses.scores.shape == (2, 17)


def test_a_user_error_exits_with_status_2_and_one_line(folder):
    done = run_tool(folder, "train", "train.epoch=3")

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: command line: ")
    assert done.stderr.count("\n") == 1
