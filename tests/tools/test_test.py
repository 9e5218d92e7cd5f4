"""tools/test.py: results, metrics, boxes, exported models and errors, with a random model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO

from pose.cli import run
from pose.config.loader import load_config
from pose.datasets.synthetic.prepare import prepare_data
from pose.inference.pytorch import in_bf16
from pose.models import build_pose_net
from pose.models.weights import write_weights
from pose.tools.test import main

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
DETECTIONS, ANNOTATIONS = "annotations/person_detections_val.json", "annotations/person_keypoints_val.json"

Test = Callable[..., Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "data"
    prepare_data(load_config("quickstart", [f"data.root={root}", *TINY]))
    return root


@pytest.fixture(scope="module")
def weights(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "best.pt"
    config = load_config("quickstart", [f"data.root={data}", *TINY])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_pose_net(config)
        torch.nn.init.normal_(model.head[-1].weight)
    write_weights({"model": model.state_dict(), "config": config.model_dump(mode="json")}, path)
    return path


@pytest.fixture
def call(data: Path, weights: Path, tmp_path: Path) -> Callable[..., None]:
    """Return a function that calls the tool with flags and overrides."""

    def test(*arguments: object, weights: Path = weights) -> None:
        flags = [str(argument) for argument in arguments if "=" not in str(argument)]
        overrides = [str(argument) for argument in arguments if "=" in str(argument)]
        fixed = ["--cfg", "quickstart", "--device", "cpu", "--weights", str(weights), "--output", str(tmp_path / "out")]
        run(main, [*fixed, *flags, f"data.root={data}", *TINY, *overrides])

    return test


@pytest.fixture
def error_line(call: Callable[..., None], refusal: Callable[[Callable[[], object]], str]) -> Callable[..., str]:
    """Return a function that calls the tool and returns its error line."""
    return lambda *arguments, **options: refusal(lambda: call(*arguments, **options))


def read(tmp_path: Path, name: str = "results.json") -> Any:
    return json.loads((tmp_path / "out" / name).read_text())


def test_results_are_in_coco_format(call, data, tmp_path):
    call()

    results = read(tmp_path)
    ground_truth = COCO(str(data / ANNOTATIONS))
    loaded = ground_truth.loadRes(str(tmp_path / "out/results.json"))
    assert len(loaded.anns) == len(results) > 8
    assert {row["image_id"] for row in results} <= ground_truth.imgs.keys()
    for row in results:
        assert row.keys() == {"image_id", "category_id", "keypoints", "score"}
        assert row["category_id"] == 1
        assert len(row["keypoints"]) == 51
        assert all(isinstance(value, float) for value in row["keypoints"])


def test_detector_boxes_are_the_default_and_stated_in_the_report(call, capsys, tmp_path):
    call()

    table, *_, protocol = capsys.readouterr().out.strip().split("\n")
    assert table.split()[:6] == ["AP", "AP50", "AP75", "APM", "APL", "AR"]
    metrics = read(tmp_path, "metrics.json")
    assert "detector boxes of person_detections_val.json" in protocol
    assert metrics["boxes"] == "detector boxes of person_detections_val.json"
    assert metrics["protocol"] == protocol
    assert {"AP", "AP50", "AP75", "APM", "APL", "AR", "keypoint_similarity", "weights"} <= metrics.keys()


def test_ground_truth_boxes_are_stated_in_the_report(call, capsys, data, tmp_path):
    call("--gt-boxes")

    annotations = json.loads((data / ANNOTATIONS).read_text())["annotations"]
    persons = sum(bool(record["num_keypoints"]) and not record["iscrowd"] for record in annotations)
    assert f"{persons} ground-truth boxes" in capsys.readouterr().out.strip().split("\n")[-1]
    assert read(tmp_path, "metrics.json")["boxes"] == "ground-truth boxes"


def test_detections_replace_the_boxes_of_the_config(call, capsys, data, tmp_path):
    boxes = json.loads((data / DETECTIONS).read_text())
    (tmp_path / "other.json").write_text(json.dumps(boxes[:5]))

    call("--detections", tmp_path / "other.json")

    assert "5 detector boxes of other.json" in capsys.readouterr().out


def test_detections_and_gt_boxes_are_mutually_exclusive(call, capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        call("--gt-boxes", "--detections", tmp_path / "other.json")

    assert caught.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize("batch_size", [1, 5])
def test_results_do_not_depend_on_the_batch_size(batch_size, call, tmp_path):
    call("test.batch_size=64")
    expected = read(tmp_path)

    call(f"test.batch_size={batch_size}")

    assert read(tmp_path) == expected


@pytest.mark.parametrize("size_hw", ["64,64", "96,64", "64,96"])
def test_input_sizes_divisible_by_32_are_accepted(size_hw, call, tmp_path, capsys):
    call(f"input.size_hw=[{size_hw}]")

    assert read(tmp_path)
    assert f"input {size_hw.replace(',', 'x')} (h x w)" in capsys.readouterr().out


def test_an_input_size_not_divisible_by_32_is_refused(error_line):
    assert "multiples of 32" in error_line("input.size_hw=[100,64]")


def test_without_annotations_only_results_are_written(call, capsys, data, tmp_path):
    content = json.loads((data / ANNOTATIONS).read_text())
    del content["annotations"]
    (tmp_path / "image_info.json").write_text(json.dumps(content))

    call(f"data.val_annotations={tmp_path}/image_info.json")

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.json"]
    out = capsys.readouterr().out
    assert "no annotations to evaluate against" in out
    assert "AP50" not in out


def test_without_boxes_ap_is_zero(call, tmp_path, capsys):
    (tmp_path / "none.json").write_text("[]")

    call("--detections", tmp_path / "none.json")

    assert read(tmp_path) == []
    assert read(tmp_path, "metrics.json")["AP"] == 0
    captured = capsys.readouterr()
    assert "no results" in captured.err
    assert "AP 0: there are no detector boxes of none.json; lower test.box_threshold" in captured.err


def test_bf16_runs_the_model_in_bfloat16(call, monkeypatch, tmp_path):
    devices = []

    def record_device(heatmap_fn, device):
        devices.append(device.type)
        return in_bf16(heatmap_fn, device)

    monkeypatch.setattr("pose.engine.evaluate.in_bf16", record_device)
    call("--gt-boxes")
    in_fp32 = read(tmp_path)
    assert devices == []

    call("--gt-boxes", "--bf16")

    assert devices == ["cpu"]
    assert [row["image_id"] for row in read(tmp_path)] == [row["image_id"] for row in in_fp32]


def test_picture_writes_an_image_of_predictions(call, tmp_path):
    call("--picture", tmp_path / "new/people.jpg")

    assert (tmp_path / "new/people.jpg").stat().st_size > 5000


def test_the_default_output_folder_is_next_to_the_weights(data, weights):
    run(main, ["--cfg", "quickstart", "--device", "cpu", "--weights", str(weights.parent), f"data.root={data}", *TINY])

    assert (weights.parent / "test/metrics.json").exists()


def test_an_exported_model_is_tested_with_its_own_flip_average(suffix, call, weights, tmp_path, capsys):
    from pose.tools.export import main as export

    call("test.flip=true")
    expected, model = read(tmp_path), tmp_path / f"model{suffix}"
    export(["--weights", str(weights), "--output", str(model), "--flip"])
    capsys.readouterr()

    call("test.flip=false", weights=model)

    protocol = capsys.readouterr().out.strip().split("\n")[-1]
    assert "flip average on, shift 1" in protocol
    assert protocol.endswith(f"weights {model}")
    scores = {(row["image_id"], round(row["score"], 3)) for row in read(tmp_path)}
    assert scores == {(row["image_id"], round(row["score"], 3)) for row in expected}


def test_an_exported_model_with_another_input_or_with_bf16_is_refused(error_line, weights, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pytest.importorskip("onnx", reason="needs onnx to export")
    from pose.tools.export import main as export

    export(["--weights", str(weights), "--output", str(tmp_path / "model.onnx")])
    capsys.readouterr()

    assert "model.onnx: exported with another input" in error_line("input.padding=1.5", weights=tmp_path / "model.onnx")
    assert "bf16: model.onnx is an ONNX model, which" in error_line("--bf16", weights=tmp_path / "model.onnx")


def test_a_misspelled_key_is_answered_with_the_nearest_key(error_line):
    line = error_line("test.batch_sise=3")

    assert "did you mean" in line
    assert "batch_size" in line


def test_missing_boxes_are_named(error_line, tmp_path):
    assert f"{tmp_path}/gone.json: no such file" in error_line("--detections", tmp_path / "gone.json")


def test_missing_weights_are_named(error_line, tmp_path):
    assert "gone.pt: no such weight file" in error_line(weights=tmp_path / "gone.pt")


def test_a_folder_without_weights_is_named(error_line, tmp_path):
    assert "neither best.pt nor last.pt" in error_line(weights=tmp_path)


def test_a_file_that_is_not_a_weight_file_is_named(error_line, tmp_path):
    (tmp_path / "text.pt").write_text("hello")

    assert "text.pt: not a readable weight file" in error_line(weights=tmp_path / "text.pt")


def test_weights_of_another_model_are_refused(error_line):
    assert "best.pt: made for another model" in error_line("model.head_width=0.5")


def test_weights_of_another_loss_are_refused(error_line):
    assert "trained with train.loss cross_entropy, the config says mse" in error_line("train.loss=mse")


def test_boxes_of_another_data_set_are_refused(error_line, tmp_path):
    boxes = [{"image_id": 77, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}]
    (tmp_path / "other.json").write_text(json.dumps(boxes))

    assert "1 image ids (first 77)" in error_line("--detections", tmp_path / "other.json")


def test_an_image_suffix_that_opencv_cannot_write_is_refused(error_line, tmp_path):
    assert "people.xyz" in error_line("--picture", tmp_path / "people.xyz")


def test_picture_without_boxes_does_not_fail(call, tmp_path):
    (tmp_path / "none.json").write_text("[]")

    call("--detections", tmp_path / "none.json", "--picture", tmp_path / "people.jpg")

    assert read(tmp_path, "metrics.json")["AP"] == 0
