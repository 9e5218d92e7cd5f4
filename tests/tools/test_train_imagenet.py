"""tools/train_imagenet.py and tools/test_imagenet.py: training, resuming, testing, and errors in one line."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pose.cli import run
from pose.models.weight_averaging import export_weights
from pose.models.weights import read_weights, write_weights
from pose.tools import test_imagenet, train_imagenet

CONFIG = "imagenet/dy_mobilenetv2_w0.5"
NAME = "dy_mobilenetv2_w0.5"
TINY = (
    "input.size=32",
    "input.resize=36",
    "model.width=0.1",
    "model.depth=0.4",
    "train.batch_size=4",
    "train.epochs=1",
    "train.workers=0",
)
MAINS = {"train": train_imagenet.main, "test": test_imagenet.main}

Tool = Callable[..., None]


@pytest.fixture(autouse=True)
def _own_folder_and_random_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in a folder of the test, and restore torch's random state."""
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def tool(class_folders: Path) -> Tool:
    """Return a function that calls a tool on small data: ``tool("train", "--resume", "train.epochs=2")``."""

    def call(name: str, *arguments: object, cfg: str = CONFIG) -> None:
        flags = [str(argument) for argument in arguments if "=" not in str(argument)]
        overrides = [str(argument) for argument in arguments if "=" in str(argument)]
        tiny = TINY if cfg.startswith("imagenet/") else ()
        run(MAINS[name], ["--cfg", cfg, "--device", "cpu", *flags, f"data.root={class_folders}", *tiny, *overrides])

    return call


@pytest.fixture
def error_line(tool: Tool, refusal: Callable[[Callable[[], object]], str]) -> Callable[..., str]:
    """Return a function that calls the tool and returns its error line."""
    return lambda *arguments, **options: refusal(lambda: tool(*arguments, **options))


@pytest.fixture
def trained(tool: Tool) -> Path:
    """Run folder after training."""
    tool("train")
    (folder,) = (Path("runs") / NAME).iterdir()
    return folder


def test_a_run_is_trained_resumed_and_tested(trained, tool, capsys):
    tool("train", "--resume", "train.epochs=2")
    tool("test", "--weights", "runs")

    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["epoch"]) for row in rows] == [
        (kind, epoch) for epoch in (1, 2) for kind in ("train", "epoch", "validation")
    ]
    assert "best validation top-1" in (trained / "train.log").read_text()
    captured = capsys.readouterr()
    accuracy, protocol = captured.out.strip().split("\n")
    best = max(row["top1"] for row in rows if row["kind"] == "validation")
    assert accuracy == f"top-1 {100 * best:.2f} %, no top-5 below 5 classes"
    assert f"{NAME}: 9 images of 3 classes in " in protocol
    metrics = json.loads((trained / "test/metrics.json").read_text())
    assert metrics == {"protocol": protocol, "weights": str(trained / "best.pt"), "images": 9, "top1": best}


def test_exported_weights_are_tested_and_store_their_classes(trained, tool, tmp_path, capsys):
    path = trained / "best.pt"
    write_weights(export_weights(read_weights(path), path), tmp_path / "small.pt")

    tool("test", "--weights", tmp_path / "small.pt", "--output", tmp_path / "out")

    assert (tmp_path / "small.pt").stat().st_size < path.stat().st_size / 2
    assert str(tmp_path) not in str(torch.load(tmp_path / "small.pt", weights_only=True)["config"])
    assert json.loads((tmp_path / "out/metrics.json").read_text())["images"] == 9


# --- user errors


def test_a_missing_folder_is_named(error_line, tmp_path):
    line = error_line("train", f"data.root={tmp_path}/nowhere")

    assert f"{tmp_path}/nowhere/train: cannot read this folder of classes" in line
    assert not list(Path().rglob("*.pt"))


def test_different_training_and_validation_classes_are_named(error_line, class_folders):
    shutil.move(class_folders / "val/ring", class_folders / "val/wheel")

    assert "lacks 'ring' and has 'wheel' in addition" in error_line("train")


def test_a_class_without_images_is_named(error_line, class_folders):
    shutil.rmtree(class_folders / "train/ring")
    (class_folders / "train/ring").mkdir()

    assert "in the class folders 'ring'" in error_line("train")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_with_and_without_workers(workers, error_line, class_folders):
    for file in (class_folders / "train").rglob("*.png"):
        file.write_text("broken")

    line = error_line("train", f"train.workers={workers}")

    assert str(class_folders / "train") in line
    assert ".png: not an image" in line


def test_a_pose_config_is_refused_with_the_names_of_its_tools(error_line):
    line = error_line("train", cfg="quickstart")

    assert "expected a config of the task classification, got pose, which the tools train and test take" in line


def test_weights_of_other_classes_are_refused(trained, error_line, class_folders):
    for part in ("train", "val"):
        shutil.move(class_folders / part / "ring", class_folders / part / "wheel")

    assert "expected the classes that the model was trained on, lacks 'ring' and has 'wheel'" in error_line(
        "test", "--weights", trained
    )
    assert "trained on other classes than data.classes names" in error_line(
        "test", "--weights", trained, "data.classes=[disc, wheel, square]"
    )


def test_weights_of_another_model_are_refused(trained, error_line):
    assert "made for another model" in error_line("test", "--weights", trained, "model.dynamic_backbone=false")


def test_missing_weights_are_named(error_line):
    assert "gone.pt: no such weight file" in error_line("test", "--weights", "gone.pt")


def test_weights_of_a_pose_net_are_refused(error_line):
    from pose.models.weights import DEFAULT_WEIGHTS

    line = error_line("test", "--weights", DEFAULT_WEIGHTS)

    assert "expected weights of a classifier, got a pose model's; test it with `dyconv-pose test`" in line


def test_a_run_is_not_overwritten(trained, error_line):
    assert f"{trained}: already holds a run; resume it with --resume" in error_line("train", "--run-dir", trained)
