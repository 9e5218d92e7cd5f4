"""Engines open exported files by their names; what is missing, damaged or of another kind is one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.errors import CheckpointError, PoseError
from pose.export.write import build_onnx, write_export
from pose.inference.backends import check_exported_name, import_openvino, is_exported, open_exported
from pose.inference.metadata import ExportMetadata, read_metadata
from pose.models import build_pose_net
from pose.skeleton import COCO

ROOT = Path(__file__).resolve().parents[2]
INPUT = InputConfig(size_hw=(64, 64))
CARD = ExportMetadata(INPUT, COCO, flip_shift=None, licence='<of> the "test" & more')


@pytest.fixture
def exported(suffix, tmp_path):
    torch.manual_seed(0)
    net = build_pose_net(Config(model=ModelConfig(width=0.35, depth=0.1, head_width=0.25), input=INPUT))
    path = tmp_path / f"model{suffix}"
    with write_export(path, build_onnx(path, net, CARD, decodes=True), CARD):
        pass
    return path


def one_line(path, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        open_exported(path, threads=1)
    assert "\n" not in str(caught.value)


def test_an_opened_file_says_what_it_is_and_runs(exported):
    net = open_exported(exported, threads=1)

    assert read_metadata(net.metadata, exported) == CARD
    assert net.outputs == ("heatmaps", "keypoints", "scores")
    found = net.run(np.zeros((2, 64, 64, 3), dtype=np.uint8))
    assert {name: (value.shape, value.dtype) for name, value in found.items()} == {
        "heatmaps": ((2, 17, 16, 16), np.float32),
        "keypoints": ((2, 17, 2), np.float32),
        "scores": ((2, 17), np.float32),
    }


def test_what_a_run_gave_stays_when_there_is_another(exported):
    net, rng = open_exported(exported, threads=1), np.random.default_rng(0)
    first = net.run(rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8))["heatmaps"]
    before = first.copy()

    second = net.run(rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8))["heatmaps"]

    np.testing.assert_array_equal(first, before)
    assert (first != second).any()


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_damaged_files_are_one_line(exported, damage):
    content = exported.read_bytes()
    exported.write_bytes(content[: len(content) // 2] if damage == "cut" else b"not a model" * 9)

    one_line(exported, rf"{exported.name}: ")


def test_missing_files_are_one_line(exported):
    exported.unlink()

    one_line(exported, rf"{exported.name}: no such")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda weights: weights.unlink(), r"model\.bin: no such file"),
        (lambda weights: weights.write_bytes(weights.read_bytes()[:1000]), r"model\.xml: it or model\.bin is damaged"),
        (
            lambda weights: weights.write_bytes(weights.read_bytes()[:-4] + bytes(4)),
            r"model\.bin: not the weights that model\.xml",
        ),
    ],
    ids=["missing", "cut", "other"],
)
@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_weights_that_are_not_an_openvino_models_own_are_refused(exported, damage, message):
    damage(exported.with_suffix(".bin"))

    one_line(exported, message)


def test_other_names_are_refused_before_anything_is_opened(tmp_path):
    assert (is_exported(Path("a.ONNX")), is_exported(Path("a.xml")), is_exported(Path("a.pt"))) == (True, True, False)
    with pytest.raises(CheckpointError, match=r"a\.pt: expected a name ending in \.onnx or \.xml"):
        check_exported_name(Path("a.pt"))
    one_line(tmp_path / "a.bin", r"a\.bin: expected a name ending")


@pytest.mark.parametrize(("package", "name"), [("onnxruntime", "a.onnx"), ("openvino", "a.xml")])
def test_without_an_engine_the_message_says_what_to_install(monkeypatch, package, name):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(PoseError, match=rf"need the package {package}; pip install 'dyconv-pose\[export\]'"):
        open_exported(Path(name), threads=1)


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_openvino_computes_in_float32_on_every_processor(exported, monkeypatch):
    compiled = []
    core = type(import_openvino().Core())
    original = core.compile_model
    monkeypatch.setattr(core, "compile_model", lambda *args: compiled.append(original(*args)) or compiled[-1])

    open_exported(exported, threads=1)

    assert compiled[0].get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert compiled[0].get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_openvino_does_not_report_that_it_is_used(exported):
    code = (
        "import sys; from pathlib import Path; from pose.inference.backends import open_exported\n"
        f"open_exported(Path({str(exported)!r}), threads=1)\n"
        "sys.exit(sys.modules['openvino_telemetry'] is not None)"
    )

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
