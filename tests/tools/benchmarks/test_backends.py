"""The backends suite: what it times is what its rows say."""

from importlib.util import find_spec

import numpy as np
import pytest

from pose.config.pose import Config, InputConfig, ModelConfig
from pose.models import build_pose_net
from pose.tools.benchmarks import backends
from pose.tools.benchmarks._timing import Budget

SIZE_HW = (64, 64)


@pytest.fixture
def timed(monkeypatch):
    """The calls of each pair, which take 2 and 1 ms; a small model takes the place of the default model."""
    pairs = []

    def fake(calls, budget, rng):
        pairs.append({name: call() for name, call in calls.items()})
        return dict(zip(calls, (np.array([2e-3]), np.array([1e-3])), strict=True))

    def small(path):
        model = ModelConfig(width=0.35, depth=0.1, head_width=0.25)
        config = Config(model=model, input=InputConfig(size_hw=SIZE_HW))
        return build_pose_net(config).eval(), config

    monkeypatch.setattr(backends, "time_interleaved", fake)
    monkeypatch.setattr(backends, "load_pose_net", small)
    monkeypatch.setattr(backends, "WIDTH", 0.35)
    return pairs


def measure():
    return list(backends.measure(Budget(rounds=1), np.random.default_rng(0), size_hw=SIZE_HW))


def test_each_engine_gives_dynamic_against_static_with_its_bar_and_int8_against_float32(timed):
    for package in ("onnx", "onnxruntime", "openvino"):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")

    found = [(c.case, c.against_name, c.ratio.value, c.bar) for c in measure()]

    assert found == [
        (f"{case}, batch 1", against, 2.0, bar)
        for engine, engine_bar in (("onnxruntime", 1.4), ("openvino", 1.3))
        for case, against, bar in (
            (f"dynamic MobileNetV2 x0.35 + type B, 64x64, {engine}", "static", engine_bar),
            (f"default model, int8, {engine}", "float32", None),
        )
    ]
    # The same models in both backends, one crop each.
    first, second = timed[:2], timed[2:]
    for onnx, openvino in zip(first, second, strict=True):
        for ours, theirs in zip(onnx.values(), openvino.values(), strict=True):
            assert ours["heatmaps"].shape == theirs["heatmaps"].shape == (1, 17, 16, 16)
    (dynamic, static), (int8, float32) = (list(pair.values()) for pair in first)
    assert not np.allclose(dynamic["heatmaps"], static["heatmaps"])
    assert not np.array_equal(int8["heatmaps"], float32["heatmaps"])
    np.testing.assert_allclose(int8["heatmaps"], float32["heatmaps"], atol=0.3 * np.abs(float32["heatmaps"]).max())


def test_an_engine_that_is_not_installed_is_left_out_and_named(timed, monkeypatch, caplog):
    monkeypatch.setattr(backends, "find_spec", lambda name: None)

    assert not measure()
    assert "openvino is left out: it is not installed" in caplog.text
