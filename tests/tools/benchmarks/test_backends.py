"""The backends suite: rows match the timed calls."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.inference.openvino_cpu import openvino_has_bf16
from pose.models import build_pose_net
from pose.tools.benchmarks import backends
from pose.tools.benchmarks._timing import Budget

SIZE_HW = (64, 64)


@pytest.fixture
def timed(monkeypatch):
    """The outputs of each pair of calls; their times are 2 and 1 ms. A small model replaces the packaged one."""
    pairs = []

    def fake_times(calls, budget, rng):
        pairs.append({name: call() for name, call in calls.items()})
        return dict(zip(calls, (np.array([2e-3]), np.array([1e-3])), strict=True))

    def load_small(path):
        model_config = ModelConfig(width=0.35, depth=0.1, head_width=0.25)
        config = Config(model=model_config, input=InputConfig(size_hw=SIZE_HW))
        torch.manual_seed(1)  # the int8 error of an untrained model depends on its weights
        return build_pose_net(config).eval(), config

    monkeypatch.setattr(backends, "time_interleaved", fake_times)
    monkeypatch.setattr(backends, "load_pose_net", load_small)
    monkeypatch.setattr(backends, "WIDTH", 0.35)
    return pairs


def measure():
    return list(backends.measure(Budget(rounds=1), np.random.default_rng(0), size_hw=SIZE_HW))


def test_each_backend_compares_dynamic_with_static_and_int8_with_float32(timed):
    for package in ("onnx", "onnxruntime", "openvino"):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")

    rows = [(c.case, c.against_name, c.ratio.value, c.target) for c in measure()]
    if openvino_has_bf16():
        assert rows.pop() == ("default model, bfloat16, openvino, batch 1", "float32", 2.0, None)

    assert rows == [
        (f"{case}, batch 1", against, 2.0, target)
        for backend, backend_target in (("onnxruntime", 1.4), ("openvino", 1.3))
        for case, against, target in (
            (f"dynamic MobileNetV2 x0.35 + type B, 64x64, {backend}", "static", backend_target),
            (f"dynamic MobileNetV2 x0.35 + type B, 64x64, {backend}, K = 2", "static", None),
            (f"dynamic MobileNetV2 x0.35 + type B, 64x64, {backend}, head static", "static", None),
            (f"default model, int8, {backend}", "float32", None),
        )
    ]
    # Both backends run the same models on one crop.
    first, second = timed[:4], timed[4:8]
    for onnx, openvino in zip(first, second, strict=True):
        for in_onnx, in_openvino in zip(onnx.values(), openvino.values(), strict=True):
            assert in_onnx["heatmaps"].shape == in_openvino["heatmaps"].shape == (1, 17, 16, 16)
    (dynamic, static), (two_kernels, _), (static_head, _), (int8, float32) = (list(pair.values()) for pair in first)
    for fewer in (two_kernels, static_head):
        assert not np.allclose(fewer["heatmaps"], dynamic["heatmaps"])
    assert not np.allclose(dynamic["heatmaps"], static["heatmaps"])
    assert not np.array_equal(int8["heatmaps"], float32["heatmaps"])
    np.testing.assert_allclose(int8["heatmaps"], float32["heatmaps"], atol=0.3 * np.abs(float32["heatmaps"]).max())


def test_a_missing_backend_is_skipped_and_named(timed, monkeypatch, caplog):
    monkeypatch.setattr(backends, "find_spec", lambda name: None)

    assert not measure()
    assert "openvino is skipped: it is not installed" in caplog.text
