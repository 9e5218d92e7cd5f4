"""The make_dynamic suite: rows match the timed calls."""

import numpy as np
import pytest
import torch
from torch import nn

from pose.models.dynamic_conv import DynamicConv2d
from pose.tools.benchmarks import make_dynamic
from pose.tools.benchmarks._timing import Budget

NAMES = ("dynamic", "static", "dynamic, fused", "static, fused")


def test_each_model_and_batch_has_a_row_as_it_is_and_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = []

    def fake_times(calls, budget, rng):
        assert tuple(calls) == NAMES
        cases.append({name: (*call.args, call()) for name, call in calls.items()})
        return {name: np.array([seconds]) for name, seconds in zip(calls, (8e-3, 4e-3, 3e-3, 2e-3), strict=True)}

    monkeypatch.setattr(make_dynamic, "time_interleaved", fake_times)
    rows = list(
        make_dynamic.measure(
            Budget(rounds=1), np.random.default_rng(0), models=["shufflenet_v2_x0_5"], batches=[1, 2], size_hw=(64, 64)
        )
    )

    assert [(row.case, row.against_name, row.ratio.value) for row in rows] == [
        (f"dynamic{form}: shufflenet_v2_x0_5, 64x64, batch {batch}", f"static{form}", ratio)
        for batch in (1, 2)
        for form, ratio in (("", 2.0), (", fused", 1.5))
    ]
    for case, batch in zip(cases, (1, 2), strict=True):
        outputs = [output for _, _, output in case.values()]
        for model, images, output in case.values():
            assert images.shape == (batch, 3, 64, 64)
            assert not model.training
            torch.testing.assert_close(output, outputs[0], rtol=1e-3, atol=1e-3)
        for name, (model, _, _) in case.items():
            layers = list(model.modules())
            assert any(isinstance(layer, DynamicConv2d) for layer in layers) is name.startswith("dynamic")
            assert any(isinstance(layer, nn.BatchNorm2d) for layer in layers) is not name.endswith("fused")
