"""Inference backends: open exported files by suffix, run them, and refuse bad files with one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.errors import CheckpointError, PoseError
from pose.export.write import build_onnx, write_export
from pose.inference import backends
from pose.inference.backends import (
    check_exported_name,
    is_exported,
    open_exported,
    open_session,
)
from pose.inference.metadata import ExportMetadata, read_metadata
from pose.inference.openvino_cpu import openvino_core, openvino_has_bf16
from pose.models import build_pose_net
from pose.skeleton import COCO

ROOT = Path(__file__).resolve().parents[2]
INPUT = InputConfig(size_hw=(64, 64))
METADATA = ExportMetadata(INPUT, COCO, flip_shift=None, licence='<of> the "test" & more')


@pytest.fixture
def exported(suffix, tmp_path):
    torch.manual_seed(0)
    model = build_pose_net(Config(model=ModelConfig(width=0.35, depth=0.1, head_width=0.25), input=INPUT))
    path = tmp_path / f"model{suffix}"
    with write_export(path, build_onnx(path, model, METADATA, decodes=True), METADATA):
        pass
    return path


def assert_refused(path, message):
    """Check that a file is refused with one line."""
    with pytest.raises(CheckpointError, match=message) as caught:
        open_exported(path, threads=1)
    assert "\n" not in str(caught.value)


def test_open_exported_reads_metadata_and_runs_the_model(exported):
    session = open_exported(exported, threads=1)

    assert read_metadata(session.metadata, exported) == METADATA
    assert session.outputs == ("heatmaps", "keypoints", "scores")
    outputs = session.run(np.zeros((2, 64, 64, 3), dtype=np.uint8))
    assert {name: (value.shape, value.dtype) for name, value in outputs.items()} == {
        "heatmaps": ((2, 17, 16, 16), np.float32),
        "keypoints": ((2, 17, 2), np.float32),
        "scores": ((2, 17), np.float32),
    }


def test_outputs_of_a_run_are_not_overwritten_by_the_next_run(exported):
    session, rng = open_exported(exported, threads=1), np.random.default_rng(0)
    first = session.run(rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8))["heatmaps"]
    before = first.copy()

    second = session.run(rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8))["heatmaps"]

    np.testing.assert_array_equal(first, before)
    assert (first != second).any()


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_file_is_refused_with_one_line(exported, damage):
    content = exported.read_bytes()
    exported.write_bytes(content[: len(content) // 2] if damage == "cut" else b"not a model" * 9)

    assert_refused(exported, rf"{exported.name}: ")


def test_a_missing_file_is_refused_with_one_line(exported):
    exported.unlink()

    assert_refused(exported, rf"{exported.name}: no such")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda weights: weights.unlink(), r"model\.bin: no such file"),
        (
            lambda weights: weights.write_bytes(weights.read_bytes()[:1000]),
            r"model\.xml: not an OpenVINO model .*, or model\.bin is damaged",
        ),
        (
            lambda weights: weights.write_bytes(weights.read_bytes()[:-4] + bytes(4)),
            r"model\.bin: not the weights that model\.xml",
        ),
    ],
    ids=["missing", "cut", "other"],
)
@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_openvino_refuses_weights_that_do_not_belong_to_the_model(exported, damage, message):
    damage(exported.with_suffix(".bin"))

    assert_refused(exported, message)


def test_an_unknown_suffix_is_refused_before_the_file_is_opened(tmp_path):
    assert (is_exported(Path("a.ONNX")), is_exported(Path("a.xml")), is_exported(Path("a.pt"))) == (True, True, False)
    with pytest.raises(CheckpointError, match=r"a\.pt: expected a name ending in \.onnx or \.xml"):
        check_exported_name(Path("a.pt"))
    assert_refused(tmp_path / "a.bin", r"a\.bin: expected a name ending")


@pytest.mark.parametrize(("package", "name"), [("onnxruntime", "a.onnx"), ("openvino", "a.xml")])
def test_a_missing_backend_names_the_package_to_install(monkeypatch, package, name):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(PoseError, match=rf"need the package {package}; pip install 'dyconv-pose\[export\]'"):
        open_exported(Path(name), threads=1)


@pytest.mark.parametrize("suffix", [".onnx"], indirect=True)
def test_execution_providers_are_those_that_were_asked_for(exported, monkeypatch):
    opened = []
    monkeypatch.setattr(
        backends, "open_session", lambda *args, **kwargs: opened.append(open_session(*args, **kwargs)) or opened[-1]
    )

    session = open_exported(exported, threads=1, providers=["CPUExecutionProvider"])

    assert opened[0].get_providers() == ["CPUExecutionProvider"]
    assert session.run(np.zeros((1, 64, 64, 3), dtype=np.uint8))["heatmaps"].shape == (1, 17, 16, 16)


@pytest.mark.parametrize("suffix", [".onnx"], indirect=True)
@pytest.mark.parametrize(
    ("providers", "message"),
    [
        (["CUDExecutionProvider"], r"'CUDExecutionProvider' is not in the installed ONNX Runtime; .*available: "),
        (["CPUExecutionProvider", "QNN"], r"'QNN' is not in the installed .*available: .*CPUExecutionProvider"),
        ([], r"expected a list of execution providers, got \[\]; available: .*CPUExecutionProvider"),
        ("CPUExecutionProvider", r"expected a list of execution providers, got 'CPUExecutionProvider'"),
    ],
    ids=["unknown", "second", "none", "string"],
)
def test_an_execution_provider_that_is_not_available_is_an_error_that_lists_the_others(exported, providers, message):
    with pytest.raises(PoseError, match=message) as caught:
        open_exported(exported, threads=1, providers=providers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".onnx"], indirect=True)
def test_a_provider_that_onnx_runtime_could_not_start_is_an_error(exported, monkeypatch):
    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: available)
    monkeypatch.setattr(backends, "open_session", lambda path, threads, providers: open_session(path, threads))

    with pytest.raises(PoseError, match=r"'CUDAExecutionProvider' could not be started.*: CPUExecutionProvider"):
        open_exported(exported, threads=1, providers=available)


@pytest.mark.parametrize("suffix", [".onnx"], indirect=True)
def test_bf16_is_refused_for_onnx_runtime(exported):
    with pytest.raises(PoseError, match=r"bf16: model\.onnx is an ONNX model.* \.xml"):
        open_exported(exported, threads=1, bf16=True)


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_bf16_is_refused_on_a_processor_without_it(exported, monkeypatch):
    monkeypatch.setattr(backends, "openvino_has_bf16", lambda: False)
    with pytest.raises(PoseError, match="bf16: this processor has no arithmetic for bfloat16"):
        open_exported(exported, threads=1, bf16=True)


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_openvino_computes_in_bf16_only_if_asked(exported):
    if not openvino_has_bf16():
        pytest.skip("this processor has no arithmetic for bfloat16")
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    float32, again, bf16 = (
        open_exported(exported, threads=1, bf16=chosen).run(crops)["heatmaps"].copy() for chosen in (False, False, True)
    )
    np.testing.assert_array_equal(float32, again)
    assert 0 < np.abs(bf16 - float32).max() < 0.05 * np.abs(float32).max()


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_execution_providers_are_refused_for_openvino(exported):
    with pytest.raises(PoseError, match=r"providers: model\.xml is an OpenVINO model.* \.onnx"):
        open_exported(exported, threads=1, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("names", [{"heatmaps", "/head/Conv_output_0"}, {"aaa", "heatmaps"}])
def test_an_output_of_openvino_has_our_name_among_others(names):
    assert backends._output_name(names) == "heatmaps"
    assert backends._output_name({"other"}) == "other"


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_openvino_computes_in_float32_on_every_processor(exported, monkeypatch):
    compiled = []
    core = type(openvino_core())
    original = core.compile_model
    monkeypatch.setattr(core, "compile_model", lambda *args: compiled.append(original(*args)) or compiled[-1])

    open_exported(exported, threads=1)

    assert compiled[0].get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert compiled[0].get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_signals_are_handled_after_openvino_models_were_opened_and_closed(exported):
    """Two cores of OpenVINO leave a freed signal stack behind; `openvino_core` gives one."""
    code = (
        "import gc, signal, subprocess, sys\n"
        "from pathlib import Path\n"
        "from pose.inference.backends import open_exported\n"
        "seen = []\n"
        "signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))  # as a data loader with workers does\n"
        f"sessions = [open_exported(Path({str(exported)!r}), threads=1) for _ in range(3)]\n"
        "while sessions:\n"
        "    sessions.pop(0)\n"
        "    gc.collect()\n"
        "    subprocess.run([sys.executable, '-c', ''], check=True)\n"
        "print(len(seen))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "3"), done.stderr


@pytest.mark.parametrize("suffix", [".xml"], indirect=True)
def test_openvino_telemetry_is_disabled(exported):
    code = (
        "import sys; from pathlib import Path; from pose.inference.backends import open_exported\n"
        f"open_exported(Path({str(exported)!r}), threads=1)\n"
        "sys.exit(sys.modules['openvino_telemetry'] is not None)"
    )

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
