"""`PosePredictor` runs a weight file in each runtime with the keypoints of PyTorch, and falls back to PyTorch."""

import logging
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import pose.runtime.pose_predictor as module
from pose import PosePredictor
from pose.errors import CheckpointError, ConfigError, PoseError
from pose.inference.openvino_cpu import openvino_has_bf16
from pose.inference.pytorch import PyTorchPredictor
from pose.runtime.exports import PREFERENCES, installed_runtimes
from pose.runtime.pose_predictor import usable_runtimes

ROOT = Path(__file__).resolve().parents[2]
BOXES = [[10, 12, 40, 80], [-5, 20, 70, 60], [0, 0, 100, 140]]
Write = Callable[[bool], Path]

for package in ("onnx", "onnxruntime", "openvino"):
    pytest.importorskip(package, reason=f"needs {package}")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (140, 100, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _say_all_again() -> None:
    module._warn.cache_clear()
    module._hint.cache_clear()


def assert_same_keypoints(actual, expected) -> None:
    np.testing.assert_allclose(actual.scores, expected.scores, rtol=1e-3)
    np.testing.assert_allclose(actual.keypoints, expected.keypoints, atol=1e-2)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_every_runtime_has_the_keypoints_of_pytorch(write_model: Write, cache: Path, image, dynamic: bool) -> None:
    weights = write_model(dynamic)
    expected = {flip: PyTorchPredictor(weights, "cpu", flip=flip)(image, BOXES) for flip in (True, False)}
    for runtime in installed_runtimes():
        predictor = PosePredictor(weights, "cpu", runtime=runtime)
        assert predictor.runtime == runtime
        assert_same_keypoints(predictor(image, BOXES), expected[True])
        assert_same_keypoints(predictor.without_flip()(image, BOXES), expected[False])
        assert_same_keypoints(predictor(image, BOXES), expected[True])  # not changed by the copy

    assert PosePredictor(weights, "cpu").runtime == PREFERENCES[dynamic][0]


def test_the_model_is_exported_once_and_then_opened_without_torch(
    write_model: Write, cache: Path, image, caplog: pytest.LogCaptureFixture
) -> None:
    weights = write_model(False)
    first = PosePredictor(weights, "cpu")(image, BOXES)
    entries = list(cache.iterdir())
    assert [record.getMessage().split(" in ")[0] for record in caplog.records] == [
        "runtime: exported best.pt to onnxruntime once,"
    ]
    assert len(entries) == 1

    code = (
        "import sys, numpy, pose\n"
        "image = numpy.random.default_rng(3).integers(0, 256, (140, 100, 3), dtype=numpy.uint8)\n"
        f"poses = pose.PosePredictor({str(weights)!r}, 'cpu')(image, {BOXES!r})\n"
        "assert 'torch' not in sys.modules\n"
        "print(repr(poses.scores.tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert done.stderr == ""
    np.testing.assert_allclose(np.array(eval(done.stdout)), first.scores, rtol=1e-3)
    assert list(cache.iterdir()) == entries


def test_a_damaged_entry_is_made_again(write_model: Write, cache: Path, image) -> None:
    weights = write_model(False)
    expected = PosePredictor(weights, "cpu")(image, BOXES)
    (entry,) = cache.iterdir()
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(content)

    predictor = PosePredictor(weights, "cpu")

    assert predictor.runtime == "onnxruntime"
    np.testing.assert_array_equal(predictor(image, BOXES).keypoints, expected.keypoints)
    assert entry.read_bytes() != content


def test_threads_that_start_at_once_make_one_entry(write_model: Write, cache: Path, image) -> None:
    weights = write_model(False)
    with ThreadPoolExecutor(4) as pool:
        predictors = list(pool.map(lambda _: PosePredictor(weights, "cpu"), range(4)))

    assert {predictor.runtime for predictor in predictors} == {"onnxruntime"}
    assert [file.suffix for file in cache.iterdir()] == [".onnx"]


def test_two_processes_that_start_at_once_both_predict(write_model: Write, cache: Path) -> None:
    weights = write_model(False)
    code = f"import pose; assert pose.PosePredictor({str(weights)!r}, 'cpu').runtime == 'onnxruntime'"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(2)]

    assert [process.wait() for process in processes] == [0, 0]
    assert [file.suffix for file in cache.iterdir()] == [".onnx"]


def test_where_the_cache_cannot_be_written_pytorch_runs_and_one_line_says_so(
    write_model: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, image
) -> None:
    (tmp_path / "file").write_text("no folder")  # also root cannot create a folder below a file
    monkeypatch.setenv("DYCONV_POSE_CACHE", str(tmp_path / "file" / "cache"))
    weights = write_model(False)

    predictors = [PosePredictor(weights, "cpu") for _ in range(2)]

    assert [predictor.runtime for predictor in predictors] == ["pytorch", "pytorch"]
    (record,) = caplog.records
    assert "set DYCONV_POSE_CACHE to another folder" in record.getMessage()
    with pytest.raises(PoseError, match="set DYCONV_POSE_CACHE"):
        PosePredictor(weights, "cpu", runtime="onnxruntime")


def test_an_export_that_differs_from_pytorch_is_not_used(
    write_model: Write, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from pose.export import verify

    monkeypatch.setattr(verify, "TOLERANCE", 0.0)
    assert PosePredictor(write_model(False), "cpu").runtime == "pytorch"
    assert "heatmaps differ" in caplog.text
    assert list(cache.iterdir()) == []


def test_without_the_packages_pytorch_runs_with_a_hint(
    write_model: Write, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "installed_runtimes", lambda: ())
    with caplog.at_level(logging.INFO):
        weights = write_model(False)
        assert {PosePredictor(weights, "cpu").runtime for _ in range(2)} == {"pytorch"}
    assert [record.getMessage() for record in caplog.records] == [
        "runtime: PyTorch; for a faster one on the CPU: pip install 'dyconv-pose[export]'"
    ]


@pytest.mark.parametrize(
    ("has_bf16", "installed", "runtime"),
    [
        (True, ("onnxruntime", "openvino"), "openvino"),
        (False, ("onnxruntime", "openvino"), "pytorch"),
        (True, ("onnxruntime",), "pytorch"),
        (True, (), "pytorch"),
    ],
    ids=["openvino", "no_bf16", "no_openvino", "none"],
)
def test_bf16_runs_in_openvino_on_a_processor_that_has_it_and_otherwise_in_pytorch(
    has_bf16: bool, installed: tuple[str, ...], runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "installed_runtimes", lambda: installed)
    monkeypatch.setattr(module, "openvino_has_bf16", lambda: has_bf16)
    assert usable_runtimes("auto", "cpu", bf16=True) == (() if runtime == "pytorch" else (runtime,))


def test_scores_in_bf16_are_near_those_in_float32(cache: Path, image) -> None:
    if not openvino_has_bf16():
        pytest.skip("this processor has no arithmetic for bfloat16")
    predictors = [PosePredictor("default", "cpu", runtime="openvino", bf16=bf16) for bf16 in (False, True)]
    float32, bf16 = (predictor(image, BOXES).scores for predictor in predictors)

    assert 0 < np.abs(bf16 - float32).max() < 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "onnx"}, "expected one of auto, pytorch, onnxruntime, openvino, got 'onnx'"),
        ({"runtime": "onnxruntime", "bf16": True}, "computes in float32"),
        ({"runtime": "onnxruntime", "device": "cuda"}, "runs on the CPU, not on 'cuda'"),
    ],
)
def test_impossible_choices_are_refused(options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PosePredictor(**options)


@pytest.mark.parametrize("runtime", ["auto", "onnxruntime"])
def test_missing_weights_are_refused_as_in_pytorch(runtime: str, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(CheckpointError, match="no such weight file"):
        PosePredictor(tmp_path / "best.pt", "cpu", runtime=runtime)
