"""Classification under torchrun: two gloo ranks train like one process, and evaluate every image once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "imagenet/dy_mobilenetv2_w0.5"
OVERRIDES = (
    "input.size=32",
    "input.resize=36",
    "model.width=0.1",
    "model.depth=0.4",
    "train.batch_size=12",
    "train.epochs=3",
    "train.learning_rate=0.01",
    "train.workers=0",
)
"""An epoch has one step, so that each row of metrics.jsonl has the loss of one step."""


def train(ranks: int, folder: Path, overrides: list[str]) -> None:
    """Run the training tool in processes of its own, under torchrun if there are several ranks."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks > 1 else []
    tool = [ROOT / "tools/train_imagenet.py", "--cfg", NAME, "--device", "cpu", "--run-dir", folder, *overrides]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, *map(str, tool)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def read_rows(folder: Path, kind: str) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def test_two_ranks_have_the_losses_of_one_process_and_evaluate_each_image_once(class_folders, tmp_path):
    overrides = [f"data.root={class_folders}", *OVERRIDES]
    train(1, tmp_path / "one", overrides)
    train(2, tmp_path / "two", overrides)

    one, two = ([row["loss"] for row in read_rows(tmp_path / name, "train")] for name in ("one", "two"))
    assert len(one) == 3
    assert two[0] == pytest.approx(one[0], rel=1e-5)
    # Batch norm over twelve values per channel amplifies rounding errors in every step.
    assert two == pytest.approx(one, rel=2e-2)

    # The ranks evaluate five and four of the nine images.
    correct = [round(9 * row["top1"], 4) for row in read_rows(tmp_path / "two", "validation")]
    assert correct == [round(count) for count in correct]
