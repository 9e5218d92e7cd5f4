"""Two gloo ranks under torchrun compute the losses, weights and predictions of one process, on the command line.

An epoch has one step, so that each row of metrics.jsonl has the loss of one step.
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
TRAIN_WITH_SGD = Path(__file__).with_name("train_with_sgd.py")
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
    """Run a script in one process or under torchrun."""
    python = [sys.executable]
    if processes > 1:
        python += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*python, script, "--cfg", "quickstart", "--device", "cpu", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("synthetic") / "data"


def train_one_and_two(script: Path, data: Path, root: Path, *overrides: str) -> tuple[Path, Path]:
    """Train with one process and with two; return both run folders."""
    folders = root / "one", root / "two"
    for processes, folder in enumerate(folders, start=1):
        run_script(script, "--run-dir", folder, f"data.root={data}", *CONFIG, *overrides, processes=processes)
    return folders


@pytest.fixture(scope="module", params=[1, 2], ids=["whole", "accumulate"])
def runs(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs with plain gradient descent, where a difference of gradients causes a proportional difference of weights."""
    overrides = ("train.learning_rate=0.01", f"train.accumulate={request.param}")
    return train_one_and_two(TRAIN_WITH_SGD, data, tmp_path_factory.mktemp("sgd"), *overrides)


@pytest.fixture(scope="module")
def adam_runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs with Adam, the optimizer of the tool."""
    root = tmp_path_factory.mktemp("adam")
    return train_one_and_two(ROOT / "tools/train.py", data, root, "train.learning_rate=1e-4")


def read_losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["kind"] == "train"]


def read_checkpoint(folder: Path) -> dict:
    return torch.load(folder / "last.pt", weights_only=True)


def test_two_ranks_have_the_losses_of_one_process(runs):
    one, two = map(read_losses, runs)

    assert len(one) == STEPS
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("part", ["model", "ema"])
def test_two_ranks_have_the_weights_of_one_process(part, runs):
    """Up to rounding, which ReLU6 amplifies: another memory layout alone changes the result by 4% of the distance."""
    one, two = map(read_checkpoint, runs)
    torch.manual_seed(0)
    initial_model = build_pose_net(Config.model_validate(one["config"]))
    names = [name for name, _ in initial_model.named_parameters()]
    initial, weights_of_two, weights_of_one = (
        torch.cat([state[name].flatten() for name in names])
        for state in (initial_model.state_dict(), two[part], one[part])
    )

    distance = (weights_of_one - initial).norm()

    assert 0 < distance < 0.1 * initial.norm()  # otherwise the runs had another initialization
    assert (weights_of_two - weights_of_one).norm() < 0.1 * distance


@pytest.mark.parametrize("part", ["model", "ema"])
def test_two_ranks_have_the_running_statistics_of_one_process(part, runs):
    one, two = (read_checkpoint(folder)[part] for folder in runs)

    assert one.keys() == two.keys()
    statistics_of_two, statistics_of_one = (
        torch.cat([value for name, value in state.items() if name.endswith(("running_mean", "running_var"))])
        for state in (two, one)
    )
    # Up to rounding, as for the weights.
    assert (statistics_of_two - statistics_of_one).norm() < 0.01 * statistics_of_one.norm()


def test_two_ranks_have_the_losses_of_one_process_with_adam(adam_runs):
    one, two = map(read_losses, adam_runs)

    assert two == pytest.approx(one, rel=1e-4)
    assert len(set(one)) == STEPS


def test_progress_counts_samples_of_the_global_batch(adam_runs):
    one, two = (read_checkpoint(folder)["progress"] for folder in adam_runs)

    assert {**one, "seconds": 0} == {**two, "seconds": 0}
    assert two["samples"] == STEPS * 16


def test_only_rank_0_writes_files(adam_runs):
    one, two = (sorted(path.name.split(".")[0] for path in folder.iterdir()) for folder in adam_runs)

    assert one == two
    rows = [(folder / "metrics.jsonl").read_text().splitlines() for folder in adam_runs]
    assert len(rows[0]) == len(rows[1]) == 2 * STEPS + 1  # an epoch has one step: its row and one for the epoch


def test_two_ranks_write_the_results_of_one_process(adam_runs, data, tmp_path):
    """Ranks share the persons without padding, so that none is counted twice, and results are in order."""
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
