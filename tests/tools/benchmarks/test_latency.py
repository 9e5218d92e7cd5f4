"""The latency suite: rows match the timed calls."""

from pathlib import Path

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
    options = {"parts": ["pose"], "size_hw": SIZE_HW, "classifier_hw": SIZE_HW} | options
    return list(latency.measure(Budget(rounds=1), np.random.default_rng(0), **options))


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


def test_classifiers_are_timed_as_trained_on_as_many_images_as_given(monkeypatch):
    timed = []

    def fake_times(calls, budget, rng):
        timed.append((budget, {name: (*call.args, call()) for name, call in calls.items()}))
        return {"dynamic": np.array([3e-3]), "static": np.array([2e-3])}

    monkeypatch.setattr(latency, "time_interleaved", fake_times)
    rows = measure(widths=(0.5, 0.35), parts=["classifiers"], images=5000, classifier_hw=(64, 64))
    measure(widths=(0.35,), parts=["classifiers"], classifier_hw=(64, 64))

    assert [(row.case, row.against_name, row.ratio.value, row.target) for row in rows] == [
        (f"dynamic MobileNetV2 x{width} classifier, 64x64, batch 1", "static", 1.5, None) for width in (0.5, 0.35)
    ]
    assert [budget for budget, _ in timed] == [Budget(rounds=5000)] * 2 + [Budget(rounds=1)]
    for _, calls in timed:
        assert {name: is_dynamic(model) for name, (model, _, _) in calls.items()} == {"dynamic": True, "static": False}
        for model, x, y in calls.values():
            assert not model.training
            assert any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
            assert (x.shape, y.shape) == ((1, 3, 64, 64), (1, 1000))


def test_the_row_of_table_12_has_means_and_medians_of_all_images(monkeypatch):
    times = {"dynamic": np.array([3e-3, 3e-3, 9e-3]), "static": np.array([2e-3, 2e-3, 5e-3])}
    monkeypatch.setattr(latency, "time_interleaved", lambda *_: times)

    (row,) = measure(widths=(0.35,), parts=["classifiers"], images=3, classifier_hw=(64, 64))

    cells = [cell.strip() for cell in row.note.strip("|").split("|")]
    assert cells[:6] == ["x0.35", "3.00", "2.00", "5.00", "3.00", "1.67"]
    assert cells[6].startswith("1.50 (")
    assert cells[7] == "about 1.10"
    page = (Path(__file__).resolve().parents[3] / "docs/paper.md").read_text(encoding="utf-8")
    (heading,) = (line for line in page.splitlines() if line.startswith("| width | static, mean"))
    assert heading.count("|") == row.note.count("|")


def test_a_real_measurement_returns_times():
    (backbone, *_) = measure(widths=(0.35,))

    assert backbone.rounds == 1
    assert 0 < backbone.ours.median < 1e4
