"""tools/train.py: errors of the user exit with status 2 and one line; --resume and --run-dir."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pose.cli import run
from pose.config.loader import load_config
from pose.models import build_pose_net
from pose.models.weights import write_weights
from pose.tools.train import main

TINY = (
    "data.synthetic.train_images=8",
    "data.synthetic.val_images=3",
    "data.synthetic.image_wh=[120,90]",
    "model.width=0.35",
    "model.depth=0.4",
    "model.head_width=0.125",
    "input.size_hw=[64,64]",
    "train.batch_size=8",
    "train.epochs=1",
    "train.workers=0",
    "train.loss=cross_entropy",
)

Train = Callable[..., None]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("synthetic") / "data"


@pytest.fixture(autouse=True)
def _own_folder_and_random_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in a folder of the test, and restore torch's random state."""
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def train(data: Path) -> Train:
    """Return a function of flags and overrides that trains a small model: ``train("--resume", "train.epochs=2")``."""

    def call(*arguments: object) -> None:
        flags = [str(argument) for argument in arguments if "=" not in str(argument)]
        overrides = [str(argument) for argument in arguments if "=" in str(argument)]
        run(main, ["--cfg", "quickstart", "--device", "cpu", *flags, f"data.root={data}", *TINY, *overrides])

    return call


@pytest.fixture
def error_line(train: Train, refusal: Callable[[Callable[[], object]], str]) -> Callable[..., str]:
    """Return a function that calls the tool and returns its error line."""
    return lambda *arguments: refusal(lambda: train(*arguments))


def test_a_misspelled_key_is_answered_with_the_nearest_key(error_line):
    line = error_line("train.epoch=3")

    assert "train.epoch" in line
    assert "did you mean" in line
    assert "epochs" in line


def test_a_missing_config_is_named(capsys):
    with pytest.raises(SystemExit) as caught:
        run(main, ["--cfg", "quickstrat"])

    assert caught.value.code == 2
    assert "quickstrat" in capsys.readouterr().err


def test_missing_annotations_are_named(error_line, tmp_path):
    line = error_line("data.synthetic=null", f"data.train_annotations={tmp_path}/persons.json")

    assert f"{tmp_path}/persons.json: no such file" in line
    assert not Path("runs").exists() or not list(Path("runs").rglob("*.pt"))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_image_is_named_with_and_without_workers(workers, error_line, tmp_path):
    line = error_line(f"data.train_images={tmp_path}/elsewhere", f"train.workers={workers}")

    assert f"{tmp_path}/elsewhere/" in line
    assert ".jpg: cannot read the image" in line


def test_a_batch_larger_than_the_data_set_is_refused(error_line):
    assert "train.batch_size 512 is larger than the" in error_line("train.batch_size=512")


def test_a_batch_that_accumulate_does_not_divide_is_refused(error_line):
    assert "accumulate" in error_line("train.batch_size=8", "train.accumulate=3")


def test_a_run_is_not_overwritten(train, error_line, tmp_path):
    train("--run-dir", tmp_path / "run")
    before = (tmp_path / "run/last.pt").read_bytes()

    line = error_line("--run-dir", tmp_path / "run")

    assert f"{tmp_path}/run: already holds a run; resume it with --resume" in line
    assert (tmp_path / "run/last.pt").read_bytes() == before


def test_resume_before_the_first_run_is_refused(error_line):
    assert "runs/quickstart: no run to resume" in error_line("--resume")


def test_a_missing_checkpoint_is_named(error_line):
    assert "gone.pt: no such checkpoint" in error_line("--resume", "gone.pt")


def test_weights_without_training_state_are_not_resumed(error_line, data, tmp_path):
    config = load_config("quickstart", [f"data.root={data}", *TINY])
    content = {"model": build_pose_net(config).state_dict(), "config": config.model_dump(mode="json")}
    write_weights(content, tmp_path / "weights.pt")

    assert "holds weights but no training state" in error_line("--resume", tmp_path / "weights.pt")


def test_a_checkpoint_of_another_model_is_not_resumed(train, error_line, tmp_path):
    train("--run-dir", tmp_path / "run")

    line = error_line("--resume", tmp_path / "run/last.pt", "model.head_width=0.25")

    assert "last.pt: made for another model" in line


@pytest.mark.parametrize("resume", ["newest", "file", "folder"])
def test_resume_continues_the_run_in_its_folder(resume, train):
    train()
    (folder,) = Path("runs/quickstart").iterdir()
    value = {"newest": [], "file": [folder / "last.pt"], "folder": [folder]}[resume]

    train("--resume", *value, "train.epochs=2")

    assert [path.name for path in Path("runs/quickstart").iterdir()] == [folder.name]
    assert torch.load(folder / "last.pt", weights_only=True)["progress"]["epoch"] == 2
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["kind"] == "train"] == [1, 2]


def test_a_run_is_resumed_in_another_run_dir(train, tmp_path):
    train("--run-dir", tmp_path / "first")

    train("--resume", tmp_path / "first/last.pt", "--run-dir", tmp_path / "second", "train.epochs=2")

    epochs = [
        torch.load(tmp_path / name / "last.pt", weights_only=True)["progress"]["epoch"] for name in ("first", "second")
    ]
    assert epochs == [1, 2]
