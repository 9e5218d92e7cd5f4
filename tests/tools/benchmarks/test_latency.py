"""The latency suite: rows match the timed calls."""

import numpy as np
import pytest
import torch
from torch import nn

from pose.models.dynamic_conv import DynamicConv2d
from pose.tools.benchmarks import latency
from pose.tools.benchmarks._timing import Budget

SIZE_HW = (64, 64)
NAMES = ("dynamic", "dynamic in channels_last", "static", "static in channels_last")


@pytest.fixture
def timed(monkeypatch):
    """The arguments and output of each call by case; the times are 8, 3, 4 and 2 ms."""
    cases = []

    def fake_times(calls, budget, rng):
        assert tuple(calls) == NAMES
        cases.append({name: (*call.args, call()) for name, call in calls.items()})
        return {name: np.array([seconds]) for name, seconds in zip(calls, (8e-3, 3e-3, 4e-3, 2e-3), strict=True)}

    monkeypatch.setattr(latency, "time_interleaved", fake_times)
    return cases


def measure(**options):
    return list(latency.measure(Budget(rounds=1), np.random.default_rng(0), size_hw=SIZE_HW, **options))


def is_dynamic(model):
    return any(isinstance(layer, DynamicConv2d) for layer in model.modules())


def test_each_width_has_rows_for_backbone_and_model_in_both_layouts(timed):
    rows = [(c.case, c.against_name, c.ratio.value, c.target) for c in measure(widths=(1.0, 0.5))]

    assert rows == [
        (f"dynamic{layout} MobileNetV2 {part}, 64x64, batch 1", f"static{layout}", ratio, target)
        for part, target in (
            ("x1 backbone", 1.25),
            ("x1 + type B", None),
            ("x0.5 backbone", 1.3),
            ("x0.5 + type B", 1.15),
        )
        for layout, ratio in (("", 2.0), (" in channels_last", 1.5))
    ]


def test_dynamic_and_static_models_are_fused_and_run_on_one_crop(timed):
    measure(widths=(0.35,))

    for case, channels in zip(timed, (1280, 17), strict=True):
        assert [is_dynamic(model) for model, _, _ in case.values()] == [True, True, False, False]
        assert all(not model.training for model, _, _ in case.values())
        assert not any(isinstance(layer, nn.BatchNorm2d) for model, _, _ in case.values() for layer in model.modules())
        assert all(x.shape == (1, 3, *SIZE_HW) and y.shape[:2] == (1, channels) for _, x, y in case.values())


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_both_layouts_run_the_same_model(timed, kind):
    measure(widths=(0.35,))

    for case in timed:
        (_, x, y), (model_last, x_last, y_last) = case[kind], case[f"{kind} in channels_last"]
        assert x.is_contiguous()
        assert x_last.is_contiguous(memory_format=torch.channels_last)
        convs = [layer for layer in model_last.modules() if isinstance(layer, torch.nn.Conv2d)]
        assert all(conv.weight.is_contiguous(memory_format=torch.channels_last) for conv in convs)
        torch.testing.assert_close(y_last, y, rtol=1e-3, atol=5e-4 * y.abs().max().item())


def test_backbone_and_head_are_both_dynamic_or_both_static(timed):
    measure(widths=(0.35,))

    dynamic, static = timed[1]["dynamic"][0], timed[1]["static"][0]
    assert (is_dynamic(dynamic.backbone), is_dynamic(dynamic.head)) == (True, True)
    assert (is_dynamic(static.backbone), is_dynamic(static.head)) == (False, False)


def test_activations_do_not_decay_to_denormals(timed):
    measure(widths=(0.35,))

    for features in (y for _, _, y in timed[0].values()):
        assert features.abs().max() > 0.1


def test_a_real_measurement_returns_times():
    (backbone, *_) = measure(widths=(0.35,))

    assert backbone.rounds == 1
    assert 0 < backbone.ours.median < 1e4
