"""Two gloo processes under torchrun follow one process: the same losses, the same weights, the same predictions.

All of it through the command line. An epoch has one step, so that each row of metrics.jsonl is one step's loss.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pose.config.pose import Config
from pose.models import build_pose_net

ROOT = Path(__file__).resolve().parents[2]
TRAIN_BY_DESCENT = Path(__file__).with_name("train_by_descent.py")
STEPS = 6
CONFIG = (
    "data.synthetic.train_images=10",
    "data.synthetic.val_images=5",
    "data.synthetic.image_wh=[160,120]",
    "model.width=0.35",
    "model.depth=0.4",
    "model.head_width=0.125",
    "input.size_hw=[64,64]",
    "train.batch_size=16",
    "train.loss=cross_entropy",
    "train.schedule=steps",
    "train.warmup_steps=0",
    f"train.epochs={STEPS}",
    f"train.validate_every={STEPS}",
    "train.ema_decay=0.9",
    "train.workers=0",
)


def run_script(script: Path, *arguments: object, processes: int = 1) -> None:
    """Run a script as a user does, in one process or under torchrun."""
    python = [sys.executable]
    if processes > 1:
        python += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*python, script, "--cfg", "quickstart", "--device", "cpu", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded") / "data"


def train_one_and_two(script: Path, data: Path, root: Path, *overrides: str) -> tuple[Path, Path]:
    """Return the folders of the same run in one process and in two."""
    folders = root / "one", root / "two"
    for processes, folder in enumerate(folders, start=1):
        run_script(script, "--run-dir", folder, f"data.root={data}", *CONFIG, *overrides, processes=processes)
    return folders


@pytest.fixture(scope="module", params=[1, 2], ids=["whole", "accumulate"])
def runs(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """By gradient descent: whatever differs shows in proportion."""
    overrides = ("train.learning_rate=0.01", f"train.accumulate={request.param}")
    return train_one_and_two(TRAIN_BY_DESCENT, data, tmp_path_factory.mktemp("descent"), *overrides)


@pytest.fixture(scope="module")
def adam_runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """As users train."""
    root = tmp_path_factory.mktemp("adam")
    return train_one_and_two(ROOT / "tools/train.py", data, root, "train.learning_rate=1e-4")


def read_losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["kind"] == "train"]


def read_checkpoint(folder: Path) -> dict:
    return torch.load(folder / "last.pt", weights_only=True)


def test_losses_agree_step_by_step(runs):
    one, two = map(read_losses, runs)

    assert len(one) == STEPS
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("part", ["model", "ema"])
def test_weights_went_the_same_way(part, runs):
    """Up to rounding, which kinks (ReLU6) enlarge: one process with another memory layout ends 4% of the way off."""
    one, two = map(read_checkpoint, runs)
    torch.manual_seed(0)
    start = build_pose_net(Config.model_validate(one["config"]))
    names = [name for name, _ in start.named_parameters()]
    first, ours, theirs = (
        torch.cat([state[name].flatten() for name in names]) for state in (start.state_dict(), two[part], one[part])
    )

    way = (theirs - first).norm()

    assert 0 < way < 0.1 * first.norm()  # or these were not the weights that they started from
    assert (ours - theirs).norm() < 0.1 * way


@pytest.mark.parametrize("part", ["model", "ema"])
def test_running_statistics_agree_at_the_end(part, runs):
    one, two = (read_checkpoint(folder)[part] for folder in runs)

    assert one.keys() == two.keys()
    ours, theirs = (
        torch.cat([value for name, value in state.items() if name.endswith(("running_mean", "running_var"))])
        for state in (two, one)
    )
    # Up to the same rounding as the weights.
    assert (ours - theirs).norm() < 0.01 * theirs.norm()


def test_with_adam_losses_agree_step_by_step(adam_runs):
    one, two = map(read_losses, adam_runs)

    assert two == pytest.approx(one, rel=1e-4)
    assert len(set(one)) == STEPS


def test_progress_counts_global_batches(adam_runs):
    one, two = (read_checkpoint(folder)["progress"] for folder in adam_runs)

    assert {**one, "seconds": 0} == {**two, "seconds": 0}
    assert two["samples"] == STEPS * 16


def test_only_the_first_process_writes(adam_runs):
    one, two = (sorted(path.name.split(".")[0] for path in folder.iterdir()) for folder in adam_runs)

    assert one == two
    rows = [(folder / "metrics.jsonl").read_text().splitlines() for folder in adam_runs]
    assert len(rows[0]) == len(rows[1]) == STEPS + 1


def test_two_processes_test_alike(adam_runs, data, tmp_path):
    """Persons are shared out without padding, so that none is counted twice, and come back in order."""
    weights = adam_runs[0] / "last.pt"
    for processes in (1, 2):
        output = tmp_path / str(processes)
        run_script(
            ROOT / "tools/test.py", "--weights", weights, "--output", output, f"data.root={data}", *CONFIG,
            "train.learning_rate=1e-4", processes=processes,
        )  # fmt: skip

    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("1", "2"))
    assert len(one) > 10
    assert two == one
