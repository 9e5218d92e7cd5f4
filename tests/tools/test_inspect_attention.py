"""tools/inspect_attention.py: table, report and plot of random models whose attention varies between inputs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pose.cli import run
from pose.config.loader import load_any_config, load_config
from pose.datasets.synthetic.prepare import prepare_data
from pose.engine.curves import read_layers
from pose.models import build_classifier, build_pose_net
from pose.models.weights import write_weights
from pose.tools import test as test_tool
from pose.tools import test_imagenet
from pose.tools.inspect_attention import main

pytest.importorskip("matplotlib", reason="needs matplotlib, of the extra `plot`")

TINY = (
    "data.synthetic.train_images=1",
    "data.synthetic.val_images=8",
    "data.synthetic.image_wh=[160,120]",
    "model.width=0.35",
    "model.depth=0.4",
    "model.head_width=0.125",
    "input.size_hw=[64,64]",
    "train.workers=0",
    "train.loss=cross_entropy",
)
STATIC = ("model.dynamic_backbone=false", "model.dynamic_head=false")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "data"
    prepare_data(load_config("quickstart", [f"data.root={root}", *TINY]))
    return root


def write_model(path: Path, *overrides: str) -> Path:
    config = load_config("quickstart", [*TINY, *overrides])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_pose_net(config)
        for name, parameter in model.named_parameters():
            if ".attention." in name or name == "head.7.weight":
                torch.nn.init.normal_(parameter, std=3.0)
    write_weights({"model": model.state_dict(), "config": config.model_dump(mode="json")}, path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("run") / "best.pt")


@pytest.fixture
def call(data: Path, weights: Path, tmp_path: Path) -> Callable[..., None]:
    """Return a function that calls the tool, or another one, with flags and overrides."""

    def inspect(*arguments: object, weights: Path = weights, tool: Any = main) -> None:
        flags = [str(argument) for argument in arguments if "=" not in str(argument)]
        overrides = [str(argument) for argument in arguments if "=" in str(argument)]
        fixed = ["--cfg", "quickstart", "--device", "cpu", "--weights", str(weights), "--output", str(tmp_path / "out")]
        run(tool, [*fixed, *flags, f"data.root={data}", *TINY, *overrides])

    return inspect


@pytest.fixture
def error_line(call: Callable[..., None], refusal: Callable[[Callable[[], object]], str]) -> Callable[..., str]:
    """Return a function that calls the tool and returns its error line."""
    return lambda *arguments, **options: refusal(lambda: call(*arguments, **options))


def read(tmp_path: Path, name: str = "inspection.json") -> Any:
    return json.loads((tmp_path / "out" / name).read_text())


def test_a_table_a_report_and_a_plot_are_written(call, capsys, tmp_path):
    call("--gt-boxes")

    header, *rows, layers, protocol = capsys.readouterr().out.strip().split("\n")
    report = read(tmp_path)
    assert header.split() == ["attention", "AP", "AP50"]
    assert [row[: row.index("  ")] for row in rows] == list(report["modes"])
    assert list(report["modes"])[:4] == ["as trained", "averaged", "mean of all inputs", "largest only"]
    assert {f"off at stride {stride}" for stride in (2, 4, 8, 16, 32)} <= report["modes"].keys()
    assert "one kernel" in layers
    assert protocol == report["protocol"]
    assert "ground-truth boxes; input 64x64" in protocol
    assert (tmp_path / "out/entropy.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["entropy.png", "inspection.json"]


def test_as_trained_equals_the_metrics_of_the_test_tool(call, tmp_path):
    call()
    inspected = read(tmp_path)["modes"]["as trained"]

    call(tool=test_tool.main)

    tested = read(tmp_path, "metrics.json")
    assert inspected == {"AP": tested["AP"], "AP50": tested["AP50"]}


def test_the_report_holds_the_attention_of_each_layer(call, tmp_path):
    call("--limit", "2")

    layers = read_layers(tmp_path / "out/inspection.json")
    assert layers[0]["name"].startswith("backbone.blocks.0.")
    assert layers[-1]["name"].startswith("head.")
    assert {layer["stride"] for layer in layers} == {2, 4, 8, 16, 32}
    assert {layer["kind"] for layer in layers} == {"1x1", "depthwise 3x3", "depthwise 5x5"}
    assert all(0 <= layer["entropy_mean"] <= 1 and 0 <= layer["variation"] <= 1 for layer in layers)
    assert max(layer["variation"] for layer in layers) > 0.001


def test_the_limit_is_stated_in_the_protocol(call, capsys):
    call("--gt-boxes", "--limit", "1")
    assert "ground-truth boxes of the first 1 images" in capsys.readouterr().out


def test_the_default_output_folder_is_next_to_the_weights(data, weights):
    fixed = ["--cfg", "quickstart", "--device", "cpu", "--weights", str(weights.parent), "--limit", "2"]
    run(main, [*fixed, f"data.root={data}", *TINY])

    assert (weights.parent / "inspection/inspection.json").exists()


def test_a_static_model_is_refused(error_line, tmp_path):
    line = error_line(*STATIC, weights=write_model(tmp_path / "static.pt", *STATIC))

    assert f"{tmp_path}/static.pt: expected a dynamic model, got a static one" in line
    assert not (tmp_path / "out").exists()


def test_missing_weights_are_named(error_line, tmp_path):
    assert "gone.pt: no such weight file" in error_line(weights=tmp_path / "gone.pt")


def test_a_limit_below_one_is_refused(error_line):
    assert "--limit: expected a whole number from 1" in error_line("--limit", "0")


def test_a_batch_size_of_one_is_refused(error_line):
    assert "test.batch_size: expected 2 or more" in error_line("test.batch_size=1")


def test_detections_without_boxes_are_refused(error_line, tmp_path):
    (tmp_path / "none.json").write_text("[]")
    assert "got no persons (detector boxes of none.json)" in error_line("--detections", tmp_path / "none.json")


CLASSIFIER = "imagenet/dy_mobilenetv2_w0.5"
SMALL = ("input.size=32", "input.resize=36", "model.width=0.1", "model.depth=0.4", "train.workers=0")


@pytest.fixture
def inspect_classifier(class_folders: Path, tmp_path: Path) -> Callable[..., None]:
    """Return a function that inspects a random classifier, or calls another tool on it."""
    config = load_classifier_config(class_folders)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_classifier(config)
        for name, parameter in model.named_parameters():
            if ".attention." in name:
                torch.nn.init.normal_(parameter, std=3.0)
    write_weights({"model": model.state_dict(), "config": config.model_dump(mode="json")}, tmp_path / "best.pt")

    def inspect(*flags: str, tool: Any = main) -> None:
        fixed = ["--cfg", CLASSIFIER, "--device", "cpu", "--weights", str(tmp_path / "best.pt")]
        run(tool, [*fixed, "--output", str(tmp_path / "out"), *flags, f"data.root={class_folders}", *SMALL])

    return inspect


def load_classifier_config(class_folders: Path) -> Any:
    classes = sorted(folder.name for folder in (class_folders / "val").iterdir())
    return load_any_config(CLASSIFIER, [*SMALL, f"data.classes={classes}"])


def test_a_classifier_is_measured_by_top1_accuracy(inspect_classifier, tmp_path, capsys):
    inspect_classifier()

    report = read(tmp_path)
    assert capsys.readouterr().out.split("\n")[0].split() == ["attention", "top1"]
    assert "9 images of 3 classes" in report["protocol"]
    assert {"averaged", "shuffled across images", "off at stride 32"} <= report["modes"].keys()
    assert max(layer["variation"] for layer in report["layers"]) > 0.001
    inspect_classifier(tool=test_imagenet.main)
    assert report["modes"]["as trained"] == {"top1": read(tmp_path, "metrics.json")["top1"]}


def test_a_classifier_is_measured_on_a_limited_number_of_images(inspect_classifier, tmp_path):
    inspect_classifier("--limit", "4")
    assert "4 images of 3 classes" in read(tmp_path)["protocol"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--gt-boxes",), "--gt-boxes, --detections: dy_mobilenetv2_w0.5 is a classifier"),
        (("--limit", "0"), "--limit: expected a whole number from 1"),
    ],
)
def test_wrong_options_for_a_classifier_are_refused(inspect_classifier, capsys, flags, message):
    with pytest.raises(SystemExit) as caught:
        inspect_classifier(*flags)

    assert caught.value.code == 2
    assert message in capsys.readouterr().err
