"""tools/test.py as a user meets it; the model has learnt nothing, but says something else to every crop."""

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
    root = tmp_path_factory.mktemp("embedded") / "data"
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
    def test(*arguments: object, weights: Path = weights) -> None:
        flags = [str(one) for one in arguments if "=" not in str(one)]
        overrides = [str(one) for one in arguments if "=" in str(one)]
        fixed = ["--cfg", "quickstart", "--device", "cpu", "--weights", str(weights), "--output", str(tmp_path / "out")]
        run(main, [*fixed, *flags, f"data.root={data}", *TINY, *overrides])

    return test


@pytest.fixture
def mistake(call: Callable[..., None], refusal: Callable[[Callable[[], object]], str]) -> Callable[..., str]:
    """The line that a mistake ends with."""
    return lambda *arguments, **options: refusal(lambda: call(*arguments, **options))


def read(tmp_path: Path, name: str = "results.json") -> Any:
    return json.loads((tmp_path / "out" / name).read_text())


def test_results_are_what_the_coco_server_takes(call, data, tmp_path):
    call()

    results = read(tmp_path)
    truth = COCO(str(data / ANNOTATIONS))
    loaded = truth.loadRes(str(tmp_path / "out/results.json"))
    assert len(loaded.anns) == len(results) > 8
    assert {row["image_id"] for row in results} <= truth.imgs.keys()
    for row in results:
        assert row.keys() == {"image_id", "category_id", "keypoints", "score"}
        assert row["category_id"] == 1
        assert len(row["keypoints"]) == 51
        assert all(isinstance(value, float) for value in row["keypoints"])


def test_by_default_the_boxes_are_a_detectors_and_that_is_said(call, capsys, tmp_path):
    call()

    table, *_, protocol = capsys.readouterr().out.strip().split("\n")
    assert table.split()[:6] == ["AP", "AP50", "AP75", "APM", "APL", "AR"]
    metrics = read(tmp_path, "metrics.json")
    assert "detector boxes of person_detections_val.json" in protocol
    assert metrics["boxes"] == "detector boxes of person_detections_val.json"
    assert metrics["protocol"] == protocol
    assert {"AP", "AP50", "AP75", "APM", "APL", "AR", "keypoint_similarity", "weights"} <= metrics.keys()


def test_ground_truth_boxes_are_said_so_in_words(call, capsys, data, tmp_path):
    call("--gt-boxes")

    annotated = json.loads((data / ANNOTATIONS).read_text())["annotations"]
    persons = sum(bool(one["num_keypoints"]) and not one["iscrowd"] for one in annotated)
    assert f"{persons} ground-truth boxes" in capsys.readouterr().out.strip().split("\n")[-1]
    assert read(tmp_path, "metrics.json")["boxes"] == "ground-truth boxes"


def test_boxes_of_another_file_replace_the_configs(call, capsys, data, tmp_path):
    boxes = json.loads((data / DETECTIONS).read_text())
    (tmp_path / "mine.json").write_text(json.dumps(boxes[:5]))

    call("--detections", tmp_path / "mine.json")

    assert "5 detector boxes of mine.json" in capsys.readouterr().out


def test_boxes_are_a_detectors_or_the_annotations_but_not_both(call, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        call("--gt-boxes", "--detections", tmp_path / "mine.json")

    assert stopped.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_batch_size_changes_no_digit(batch_size, call, tmp_path):
    call("test.batch_size=64")
    whole = read(tmp_path)

    call(f"test.batch_size={batch_size}")

    assert read(tmp_path) == whole


@pytest.mark.parametrize("size_hw", ["64,64", "96,64", "64,96"])
def test_any_size_of_the_input_that_32_divides_will_do(size_hw, call, tmp_path, capsys):
    call(f"input.size_hw=[{size_hw}]")

    assert read(tmp_path)
    assert f"input {size_hw.replace(',', 'x')} (h x w)" in capsys.readouterr().out


def test_a_size_that_32_does_not_divide_is_refused(mistake):
    assert "multiples of 32" in mistake("input.size_hw=[100,64]")


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
    assert "no results" in capsys.readouterr().err


def test_bfloat16_is_used_where_it_is_asked_for(call, monkeypatch, tmp_path):
    asked = []

    def spy(heatmap_fn, device):
        asked.append(device.type)
        return in_bf16(heatmap_fn, device)

    monkeypatch.setattr("pose.inference.pytorch.in_bf16", spy)
    call("--gt-boxes")
    plain = read(tmp_path)
    assert asked == []

    call("--gt-boxes", "--bf16")

    assert asked == ["cpu"]
    assert [row["image_id"] for row in read(tmp_path)] == [row["image_id"] for row in plain]


def test_a_image_of_predictions_is_drawn(call, tmp_path):
    call("--picture", tmp_path / "shown/people.jpg")

    assert (tmp_path / "shown/people.jpg").stat().st_size > 5000


def test_by_default_results_lie_beside_the_weights(data, weights):
    run(main, ["--cfg", "quickstart", "--device", "cpu", "--weights", str(weights.parent), f"data.root={data}", *TINY])

    assert (weights.parent / "test/metrics.json").exists()


def test_an_exported_model_is_tested_as_it_is(suffix, call, weights, tmp_path, capsys):
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


def test_an_exported_model_of_other_crops_is_refused(mistake, weights, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pytest.importorskip("onnx", reason="needs onnx to export")
    from pose.tools.export import main as export

    export(["--weights", str(weights), "--output", str(tmp_path / "model.onnx")])
    capsys.readouterr()

    assert "model.onnx: exported with another input" in mistake("input.padding=1.5", weights=tmp_path / "model.onnx")
    assert "--bf16: an exported model computes in" in mistake("--bf16", weights=tmp_path / "model.onnx")


def test_a_misspelt_key_is_answered_by_the_nearest(mistake):
    line = mistake("test.batch_sise=3")

    assert "did you mean" in line
    assert "batch_size" in line


def test_missing_boxes_are_named(mistake, tmp_path):
    assert f"{tmp_path}/gone.json: no such file" in mistake("--detections", tmp_path / "gone.json")


def test_missing_weights_are_named(mistake, tmp_path):
    assert "gone.pt: no such weight file" in mistake(weights=tmp_path / "gone.pt")


def test_a_folder_without_weights_is_named(mistake, tmp_path):
    assert "neither best.pt nor last.pt" in mistake(weights=tmp_path)


def test_a_file_that_holds_no_weights_is_named(mistake, tmp_path):
    (tmp_path / "text.pt").write_text("hello")

    assert "text.pt: not a readable weight file" in mistake(weights=tmp_path / "text.pt")


def test_weights_of_another_model_are_refused(mistake):
    assert "best.pt: made for another model" in mistake("model.head_width=0.5")


def test_weights_of_another_loss_are_refused(mistake):
    assert "trained with train.loss cross_entropy, the config says mse" in mistake("train.loss=mse")


def test_boxes_of_another_data_set_are_refused(mistake, tmp_path):
    boxes = [{"image_id": 77, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}]
    (tmp_path / "other.json").write_text(json.dumps(boxes))

    assert "1 image ids (first 77)" in mistake("--detections", tmp_path / "other.json")


def test_a_image_of_no_known_kind_is_refused(mistake, tmp_path):
    assert "people.xyz" in mistake("--picture", tmp_path / "people.xyz")


def test_a_image_without_boxes_is_no_accident(call, tmp_path):
    (tmp_path / "none.json").write_text("[]")

    call("--detections", tmp_path / "none.json", "--picture", tmp_path / "people.jpg")

    assert read(tmp_path, "metrics.json")["AP"] == 0
