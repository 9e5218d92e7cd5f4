"""tools/train_imagenet.py and tools/test_imagenet.py as a user meets them; each mistake ends in one line."""

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
def _own_folder_and_random_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs go to a folder of the test, and draw random numbers of their own."""
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def tool(class_folders: Path) -> Tool:
    """``tool("train", "--resume", "train.epochs=2")`` with everything small; flags before overrides."""

    def call(name: str, *arguments: object, cfg: str = CONFIG) -> None:
        flags = [str(one) for one in arguments if "=" not in str(one)]
        overrides = [str(one) for one in arguments if "=" in str(one)]
        tiny = TINY if cfg.startswith("imagenet/") else ()
        run(MAINS[name], ["--cfg", cfg, "--device", "cpu", *flags, f"data.root={class_folders}", *tiny, *overrides])

    return call


@pytest.fixture
def mistake(tool: Tool, refusal: Callable[[Callable[[], object]], str]) -> Callable[..., str]:
    """The line that a mistake ends with."""
    return lambda *arguments, **more: refusal(lambda: tool(*arguments, **more))


@pytest.fixture
def trained(tool: Tool) -> Path:
    """A run folder."""
    tool("train")
    (folder,) = (Path("runs") / NAME).iterdir()
    return folder


def test_a_run_is_trained_resumed_and_tested(trained, tool, capsys):
    tool("train", "--resume", "train.epochs=2")
    tool("test", "--weights", "runs")

    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["epoch"]) for row in rows] == [
        (kind, epoch) for epoch in (1, 2) for kind in ("train", "validation")
    ]
    assert "best validation top-1" in (trained / "train.log").read_text()
    captured = capsys.readouterr()
    accuracy, protocol = captured.out.strip().split("\n")
    best = max(row["top1"] for row in rows if row["kind"] == "validation")
    assert accuracy == f"top-1 {100 * best:.2f} %, no top-5 below 5 classes"
    assert f"{NAME}: 9 images of 3 classes in " in protocol
    metrics = json.loads((trained / "test/metrics.json").read_text())
    assert metrics == {"protocol": protocol, "weights": str(trained / "best.pt"), "images": 9, "top1": best}


def test_packed_weights_are_tested_too_and_know_their_classes(trained, tool, tmp_path, capsys):
    path = trained / "best.pt"
    write_weights(export_weights(read_weights(path), path), tmp_path / "small.pt")

    tool("test", "--weights", tmp_path / "small.pt", "--output", tmp_path / "out")

    assert (tmp_path / "small.pt").stat().st_size < path.stat().st_size / 2
    assert str(tmp_path) not in str(torch.load(tmp_path / "small.pt", weights_only=True)["config"])
    assert json.loads((tmp_path / "out/metrics.json").read_text())["images"] == 9


# --- mistakes


def test_a_missing_folder_is_named(mistake, tmp_path):
    line = mistake("train", f"data.root={tmp_path}/nowhere")

    assert f"{tmp_path}/nowhere/train: cannot read this folder of classes" in line
    assert not list(Path().rglob("*.pt"))


def test_class_folders_that_differ_are_named(mistake, class_folders):
    shutil.move(class_folders / "val/ring", class_folders / "val/wheel")

    assert "lacks 'ring' and has 'wheel' beyond them" in mistake("train")


def test_a_class_without_images_is_named(mistake, class_folders):
    shutil.rmtree(class_folders / "train/ring")
    (class_folders / "train/ring").mkdir()

    assert "in the class folders 'ring'" in mistake("train")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_whoever_reads_it(workers, mistake, class_folders):
    for file in (class_folders / "train").rglob("*.png"):
        file.write_text("broken")

    line = mistake("train", f"train.workers={workers}")

    assert str(class_folders / "train") in line
    assert ".png: not an image" in line


def test_a_pose_config_is_answered_with_the_right_tools(mistake):
    line = mistake("train", cfg="quickstart")

    assert "expected a config of the task classification, got pose, which the tools train and test take" in line


def test_weights_of_other_classes_are_not_tested(trained, mistake, class_folders):
    for part in ("train", "val"):
        shutil.move(class_folders / part / "ring", class_folders / part / "wheel")

    assert "expected the classes that the model was trained on, lacks 'ring' and has 'wheel'" in mistake(
        "test", "--weights", trained
    )
    assert "trained on other classes than data.classes names" in mistake(
        "test", "--weights", trained, "data.classes=[disc, wheel, square]"
    )


def test_weights_of_another_model_are_not_tested(trained, mistake):
    assert "made for another model" in mistake("test", "--weights", trained, "model.dynamic_backbone=false")


def test_missing_weights_are_named(mistake):
    assert "gone.pt: no such weight file" in mistake("test", "--weights", "gone.pt")


def test_weights_of_a_pose_net_are_not_a_classifiers(mistake):
    from pose.models.weights import DEFAULT_WEIGHTS

    line = mistake("test", "--weights", DEFAULT_WEIGHTS)

    assert "expected weights of a classifier, got a pose model's; test it with tools/test.py" in line


def test_a_run_is_not_overwritten(trained, mistake):
    assert f"{trained}: already holds a run; resume it with --resume" in mistake("train", "--run-dir", trained)
